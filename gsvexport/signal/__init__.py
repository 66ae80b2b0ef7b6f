"""Sound as numbers: spectrograms, resampling, filterbanks, loudness, and what cloning takes from a recording."""
