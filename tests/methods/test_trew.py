"""TREW: the tilted target."""

import torch

from delete_tasks.methods.trew import TREW, class_similarity


def test_similarity_is_the_cosine_of_centred_rows():
    weight = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, -2.0]])
    expected = torch.tensor([[1.0, 0.0, -(0.5**0.5)], [0.0, 1.0, -(0.5**0.5)], [-(0.5**0.5), -(0.5**0.5), 1.0]])
    assert torch.allclose(class_similarity(weight), expected, atol=1e-5)


def test_target_is_the_teacher_times_the_tilt(batch):
    student, teacher, inputs = batch()
    method = TREW(classes=[2], beta=3.0)
    method.ids, method.teacher_temperature = [2], 1.0
    similarity = torch.tensor([[0.5, -0.2, 0.0, 0.1]])
    method._tilt = 3.0 * similarity
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    (got,) = torch.autograd.grad(total, student)
    target = teacher.softmax(1)
    target[4:] = target[4:] * torch.exp(3.0 * similarity)
    target[4:, 2] = 0
    target = target / target.sum(1, keepdim=True)
    assert weight == 8 and torch.allclose(got, student.softmax(1).detach() - target, atol=1e-5)


def test_forgets_towards_the_neighbours(forget, accuracy, trained, blobs):
    model = forget("TREW", steps=80, lr=1e-2, beta=2.0)
    forgotten, others = accuracy(model)
    assert forgotten < 10 and others > 80
