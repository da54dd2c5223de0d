//! Changes laid over an artifact against an artifact that was built with them.
