"""Addresses and ports of services: who has which, and what a service gets when it is written."""
