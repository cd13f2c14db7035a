"""Label formats: what their files hold, as samples; and writers of some."""
