"""Two search engines become one: ranks added up, then weights learned from judged queries."""

from conjoin.fusion.ranking import fit_weighted_sum, from_dicts, queries_of, rrf, to_dict

words = {"q1": {"cats": 9.1, "dogs": 7.0, "birds": 1.2}, "q2": {"boats": 4.0, "cars": 3.9}}
vectors = {"q1": {"dogs": 0.9, "cats": 0.7}, "q3": {"trees": 0.8, "birds": 0.3}}  # it knows nothing of q2
judged = {"q1": {"dogs": 1.0}, "q3": {"trees": 1.0}}

runs = {"words": words, "vectors": vectors}
queries = queries_of(runs)
outputs = from_dicts(runs, queries)
truth = from_dicts({"truth": judged}, queries)["truth"]
print("reciprocal rank fusion:", to_dict(rrf(outputs, k=60), queries))
print("learned weights:", fit_weighted_sum(outputs, truth).weights)
