"""ECS tasks that really run: checked as AWS checks them, started by an engine, told about by events."""

from immortal_local.tasks.assembly import build_tasks
from immortal_local.tasks.faults import Faults
from immortal_local.tasks.service import Tasks

__all__ = ["Faults", "Tasks", "build_tasks"]
