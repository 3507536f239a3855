"""Sign-in to the dashboard by OpenID Connect: authorization code flow with PKCE, and checked ID tokens."""
