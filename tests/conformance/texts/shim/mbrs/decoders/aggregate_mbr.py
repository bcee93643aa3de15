"""Every hypothesis against the bag of all references."""

from mbrs.decoders.mbr import DecoderMBR


class DecoderAggregateMBR(DecoderMBR):
    """Reference aggregation."""

    def expected(self, hypotheses, references, lprobs):
        return self.metric.expected_scores_reference_aggregation(
            hypotheses, references, reference_lprobs=lprobs
        )
