"""crowd-kit's import name over conjoin: what its tests of ROVER need."""
