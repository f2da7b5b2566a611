"""Stages that change or refuse writes after authorization: upstream's default set."""
