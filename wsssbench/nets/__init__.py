"""Networks that methods share: backbones with their input normalisation, heads, weight files."""
