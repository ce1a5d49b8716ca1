"""`tf.ConfigProto` and its kin: accepted as TensorFlow has them, used where they mean something."""

from __future__ import annotations

from typing import Any


class Message:
    """A record with default fields; unknown ones are an error, as in a protocol buffer."""

    FIELDS: dict[str, Any] = {}

    def __init__(self, **given: Any) -> None:
        for name, default in self.FIELDS.items():
            value = default() if isinstance(default, type) else default
            object.__setattr__(self, name, value)
        for name, value in given.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.FIELDS:
            raise ValueError(f'Protocol message {type(self).__name__} has no "{name}" field.')
        object.__setattr__(self, name, value)

    def CopyFrom(self, other: Message) -> None:
        for name in self.FIELDS:
            setattr(self, name, getattr(other, name))

    def __repr__(self) -> str:
        given = ", ".join(f"{n}={getattr(self, n)!r}" for n in self.FIELDS)
        return f"{type(self).__name__}({given})"


class GPUOptions(Message):
    """Accepted; memory is planned ahead, so that nothing needs limiting."""

    FIELDS = {
        "per_process_gpu_memory_fraction": 0.0,
        "allow_growth": False,
        "allocator_type": "",
        "visible_device_list": "",
        "force_gpu_compatible": False,
    }
    allow_growth: bool
    per_process_gpu_memory_fraction: float


class OptimizerOptions(Message):
    L1, L0 = 0, -1
    DEFAULT, OFF, ON_1, ON_2 = 0, -1, 1, 2
    FIELDS = {"opt_level": 0, "global_jit_level": 0, "do_constant_folding": True,
              "do_common_subexpression_elimination": True}


class GraphOptions(Message):
    FIELDS = {"optimizer_options": OptimizerOptions, "rewrite_options": None,
              "enable_bfloat16_sendrecv": False, "place_pruned_graph": False,
              "infer_shapes": True, "build_cost_model": 0}


class ConfigProto(Message):
    """intra_op_parallelism_threads: the workers of a session's pool, 0 for one a core."""

    FIELDS = {
        "allow_soft_placement": False,
        "log_device_placement": False,
        "intra_op_parallelism_threads": 0,
        "inter_op_parallelism_threads": 0,
        "use_per_session_threads": False,
        "operation_timeout_in_ms": 0,
        "device_count": dict,
        "device_filters": list,
        "gpu_options": GPUOptions,
        "graph_options": GraphOptions,
        "isolate_session_state": False,
        "share_cluster_devices_in_session": False,
    }
    gpu_options: GPUOptions
    intra_op_parallelism_threads: int


class RunOptions(Message):
    NO_TRACE, SOFTWARE_TRACE, HARDWARE_TRACE, FULL_TRACE = range(4)
    FIELDS = {"trace_level": 0, "timeout_in_ms": 0, "inter_op_thread_pool": 0,
              "output_partition_graphs": False, "report_tensor_allocations_upon_oom": False}


class RunMetadata(Message):
    FIELDS = {"step_stats": None, "cost_graph": None, "partition_graphs": list}
