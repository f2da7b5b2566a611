"""Deletes pods that nobody else will: of lost nodes, ended ones beyond a number, deleted ones never scheduled."""
