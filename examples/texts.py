"""Three translations of a sentence: the one closest to the others; three answers: the number most give."""

from conjoin.fusion.texts import answer_vote, minimum_bayes_risk
from conjoin.outputs import Texts

translations = {
    "a": Texts(["The cat sat on the mat."]),
    "b": Texts(["A cat was sitting on the mat."]),
    "c": Texts(["The cat sat on a mat."]),
}
print("minimum Bayes risk:", minimum_bayes_risk(translations, utility="chrf").texts[0])

answers = {
    "a": Texts(["7 boxes of 6 are 42"]),
    "b": Texts(["That makes 42.0"]),
    "c": Texts(["I count 36"]),
}
print("the answer of most:", answer_vote(answers).texts[0])
