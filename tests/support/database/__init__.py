"""Reading query plans, and turning PostgreSQL's clock."""
