"""What compilers for NPUs that know no free length have in common: a stage as a window of one size, believed only after
it has run. Their backends build on this and do not know each other."""
