from delete_tasks.cli.command import DATA, RECIPE, command, option
from delete_tasks.options import STEPS, claim_work_dir, record_panel, work_dir_options


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

    from delete_tasks.evaluation.results import collect
    from delete_tasks.finish import report
    from delete_tasks.record import record_options
    from delete_tasks.runner import UnlearnRunner
    from delete_tasks.terminal import make_console

    from .register import measure

    train, test = {"type": "made_steps", "count": 64, "seed": 1}, {"count": 32, "seed": 2}
    adamw = {"type": "AdamW", "lr": 0.03}
    unlearn = {"type": "DELETE", "classes": args.classes, "steps": args.steps, "optimizer": adamw}
    loader = {"dataset": train, "batch_size": 16, "collate_fn": {"type": "default_collate"}}
    cfg = Config({"model": {"type": "StepModel"}, "train_dataloader": loader, "load_from": args.model,
                  "unlearn": {**unlearn, "checkpoint_interval": 5}, "work_dir": args.work_dir, "resume": args.resume,
                  "record": record_options(args), "log_level": "WARNING"})  # fmt: skip
    with claim_work_dir(vars(args), [args.model], classes=args.classes):
        runner = UnlearnRunner.from_cfg(cfg)
        runner.train()
        evaluation = measure({"original": runner.teacher, "erased": runner.unwrapped_model}, test, runner.forget_ids)
        results = collect(runner, evaluation, data={"test": test}, measured_on="made series")
        title = f"Forgetting {', '.join(results['forgotten'])}: percent of steps"
        return report(runner, evaluation, results, make_console(), title=title)["exit_status"]
