"""Batch types: claimed jobs that are collected, and run by one call of their handler."""
