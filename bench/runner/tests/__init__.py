"""Tests of the bench runner, against a fake build: no compiler and no allocator takes part."""
