//! Tests of a partition.
