"""Three people label the same five pictures; who is reliable is learned from how they agree."""

from conjoin.fusion.labels import dawid_skene, majority_vote, worker_skill
from conjoin.outputs import Labels

classes = ("cat", "dog")
people = {
    "Anna": Labels.of(["cat", "dog", "dog", "cat", "dog"], classes),
    "Борис": Labels.of(["cat", "dog", None, "cat", "dog"], classes),  # he skipped one
    "somebody": Labels.of(["dog", "dog", "cat", "cat", "cat"], classes),
}
print("majority:", *majority_vote(people).labels().names())
print("Dawid-Skene:", *dawid_skene(people).labels().names())
print("how often each agrees with the answer:", worker_skill(people, dawid_skene(people).labels()))
