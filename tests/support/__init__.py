"""Helpers of the tests: waiting for a condition, servers with named behaviours."""
