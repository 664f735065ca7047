"""The main job on one machine: three teachers, one student, served and measured."""
