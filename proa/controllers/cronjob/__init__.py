"""CronJobs: Jobs at times of day."""
