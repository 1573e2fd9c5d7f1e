"""What a running app needs: job queue, cluster, user sessions, recordings, sets, retention."""
