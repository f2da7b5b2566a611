"""HorizontalPodAutoscalers: as many pods as their load asks for."""
