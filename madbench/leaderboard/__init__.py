"""Submissions to the leaderboard: tasks, packing, checking, scores, and the site. Reads results only."""
