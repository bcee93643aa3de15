"""mbrs 0.1.8's names over conjoin: what its tests of lexical metrics and decoders call."""
