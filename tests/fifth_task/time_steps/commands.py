from delete_tasks.cli.command import DATA, RECIPE, command, option
from delete_tasks.cli.options import STEPS, claim_work_dir, record_panel, work_dir_options


@command(
    "time_steps",
    "Make a model of time steps forget an activity.",
    option("--model", panel=DATA, required=True),
    option("--classes", panel=DATA, many=True, required=True),
    *work_dir_options("erased.pth, results.json and the record"),
    option("--steps", panel=RECIPE, type=STEPS, default=60),
    *record_panel(),
)
def COMMAND(args):
    from mmengine.config import Config

    from delete_tasks.display.terminal import make_console
    from delete_tasks.report.finish import report
    from delete_tasks.report.record.options import record_options
    from delete_tasks.report.results import collect
    from delete_tasks.runner.unlearn_runner import UnlearnRunner

    from .register import METRICS, opened

    train, test = {"type": "MadeSteps", "count": 64, "seed": 1}, {"count": 32, "seed": 2}
    unlearn = dict(type="DELETE", classes=args.classes, steps=args.steps, optimizer={"type": "AdamW", "lr": 0.03})
    loader = {"dataset": train, "batch_size": 16, "collate_fn": {"type": "default_collate"}}
    cfg = Config({"model": {"type": "StepModel"}, "train_dataloader": loader, "load_from": args.model,
                  "unlearn": {**unlearn, "checkpoint_interval": 5}, "work_dir": args.work_dir, "resume": args.resume,
                  "record": record_options(args), "log_level": "WARNING"})  # fmt: skip
    with claim_work_dir(vars(args), [args.model], classes=args.classes):
        runner = UnlearnRunner.from_cfg(cfg)
        runner.train()
        networks = {"original": runner.teacher, "erased": runner.unwrapped_model}
        models = opened(networks, test, runner.selection.forget_ids)
        evaluation = models.evaluate(METRICS)
        results = collect(runner, evaluation, data={"test": test}, measured_on="made series")
        title = f"Forgetting {', '.join(results['forgotten'])}: percent of steps"
        return report(runner, evaluation, results, models, make_console(), title=title)["exit_status"]
