"""The forms of pages: from fields to what REST would be sent, and back."""
