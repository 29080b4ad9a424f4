"""A Beam job of two worker processes that log; `test_worker` runs it in a process of its own."""

import logging

from options.redaction import redactor
from pipeline.logs import set_up_logging
from pipeline.nursery import Nursery


def log(number: int) -> int:
    logging.getLogger("s3ferry.worker").info("copied key\n%d", number)
    logging.getLogger("s3ferry.worker").warning("refused password=hunter22")
    return number


def main() -> None:
    set_up_logging("INFO", redactor({}))
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    with Nursery() as nursery:
        workers = SubprocessSDKEnvironment.from_command_string(nursery.command)
        options = PipelineOptions(["--direct_num_workers=2"])
        with beam.Pipeline(runner=FnApiRunner(default_environment=workers), options=options) as pipeline:
            pipeline | beam.Create([1, 2, 3, 4]) | beam.Reshuffle() | beam.Map(log)
