"""The two HTTP users of plain Locust with the smallest possible task, for the comparison."""

from __future__ import annotations

from locust import FastHttpUser, HttpUser, task


class Fast(FastHttpUser):
    """Locust's faster client, on geventhttpclient."""

    @task
    def get(self) -> None:
        """One GET, no wait time."""
        self.client.get("/")


class Plain(HttpUser):
    """Locust's default client, on requests."""

    @task
    def get(self) -> None:
        """One GET, no wait time."""
        self.client.get("/")
