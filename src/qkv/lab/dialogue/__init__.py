"""Conversations and their state; toxic language, found and taken out."""
