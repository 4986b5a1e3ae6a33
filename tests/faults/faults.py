"""Code that a child runs before its command, to cause a fault at a given moment. ``case`` is the request."""

# Watches every file operation in the current folder: writes their names to a file (``case["watch"]``), and ends the process
# before the one with number ``case["at"]``; with ``case["torn"]`` half of what is to be renamed is cut off first; with
# ``case["within"]`` it ends at a random moment up to so many seconds later instead.
WATCH = """
import os, random, re, signal, sys, threading, time

home, seen = os.path.realpath(case["cwd"]), []
CHANGES = {"os.rename": 0, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0, "os.link": 0, "os.symlink": 1}

def inside(path):
    if isinstance(path, int) or path is None:
        return None
    path = os.path.join(home, os.fsdecode(path))
    return path if os.path.realpath(os.path.dirname(path)).startswith(home) else None

def end():
    os.kill(os.getpid(), case.get("signal", signal.SIGKILL))

def later():
    time.sleep(random.Random(case["seed"]).random() * case["within"])
    end()

busy = threading.local()

def watch(event, args):
    if getattr(busy, "on", False) or os.getpid() != me:
        return
    if event == "open":
        path = args[0] if isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR) else None
    elif event in CHANGES:
        path = args[CHANGES[event]]
    else:
        return
    busy.on = True
    try:
        path = inside(path)
        if path is None:
            return
        target = args[1] if event == "os.rename" else path
        name = re.sub(r"[0-9]{8}_[0-9]{6}", "TIME", os.path.relpath(os.path.join(home, os.fsdecode(target)), home))
        name = re.sub(r"(\\.)[A-Za-z0-9_]{8}(\\.|$)", r"\\1RANDOM\\2", name)
        seen.append(event + " " + name)
        if case.get("watch"):
            with open(case["watch"], "a") as file:
                file.write(seen[-1] + "\\n")
        if len(seen) - 1 == case.get("at"):
            if case.get("torn") and event == "os.rename" and os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)
            if case.get("within"):
                threading.Thread(target=later, daemon=True).start()
            else:
                end()
    finally:
        busy.on = False

me = os.getpid()
sys.addaudithook(watch)
"""

# A run that creates a file when it begins, then waits for some seconds.
SLOW_TRAINING = """
import time, delete_tasks.runner.unlearn_runner
train = delete_tasks.runner.unlearn_runner.UnlearnRunner.train
def slow(self):
    open(case["cwd"] + "/../started", "w").close()
    time.sleep(4)
    return train(self)
delete_tasks.runner.unlearn_runner.UnlearnRunner.train = slow
"""

# Calls change() once, after the first step or after the erased model is written.
DURING = """
import delete_tasks.runner.hooks
step = delete_tasks.runner.hooks.StateHook.after_train_iter
def after_step(self, runner, batch_idx, *more, **named):
    step(self, runner, batch_idx, *more, **named)
    if batch_idx == 0:
        change()
delete_tasks.runner.hooks.StateHook.after_train_iter = after_step
"""
AT_THE_END = """
import delete_tasks.runner.unlearn_runner
publish = delete_tasks.runner.unlearn_runner.UnlearnRunner.publish
def publish_and_change(self):
    publish(self)
    change()
delete_tasks.runner.unlearn_runner.UnlearnRunner.publish = publish_and_change
"""
