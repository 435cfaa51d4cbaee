"""Tests of the campaign: what it plans and how it judges, without a cluster."""
