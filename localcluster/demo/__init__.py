"""The main job, shown: databases from their manifests, in real pods, under an operator with its own rights."""
