"""An ensemble as a scikit-learn estimator: cross-validation, pipelines and searches work as ever."""

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import conjoin
from two_models import frame, names

scaled = make_pipeline(StandardScaler(), LogisticRegression())
pair = [("forest", RandomForestClassifier(100, random_state=0)), ("logistic", scaled)]
both = conjoin.as_estimator("classification", estimators=pair, fuser=conjoin.fusion.mean)
found = cross_val_score(both, frame, names, cv=3, scoring="neg_log_loss")
print(f"log-loss {-found.mean():.4f}, folds from {-found.max():.4f} to {-found.min():.4f}")
