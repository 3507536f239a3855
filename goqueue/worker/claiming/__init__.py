"""Claiming: what is fetched from the runway, claimed, held until a thread takes it, or given back."""
