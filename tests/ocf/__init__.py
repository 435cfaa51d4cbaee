"""Tests of the OCF runtime, mailman_ha.ocf."""
