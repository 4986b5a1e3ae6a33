"""ViT-S/16 (not in torchvision) and Swin-T for images of any size, on torchvision's modules."""

from torch import nn

from delete_tasks.errors import RequestError, require

from .registry import register


@register("vit_s_16")
def vit_s_16(
    num_classes: int = 1000,
    image_size: int = 224,
    patch_size: int = 16,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> nn.Module:
    """ViT-S (DeiT's small: 12 layers, 6 heads, width 384; arXiv 2012.12877, table 1) with torchvision's key names.

    ``image_size``, which must be a multiple of ``patch_size``, and the latter are in pixels; patches of 4 suit 32x32 images.
    """
    if image_size % patch_size:
        raise RequestError(
            f"vit_s_16: image_size {image_size} is not a multiple of patch_size {patch_size}; change one of them"
        )
    models = require("torchvision.models", "images")
    return models.VisionTransformer(
        image_size=image_size,
        patch_size=patch_size,
        num_layers=12,
        num_heads=6,
        hidden_dim=384,
        mlp_dim=1536,
        dropout=dropout,
        attention_dropout=attention_dropout,
        num_classes=num_classes,
    )


@register("swin_t")
def swin_t(
    num_classes: int = 1000,
    image_size: int = 224,
    patch_size: int | None = None,
    window_size: int | None = None,
    stochastic_depth_prob: float = 0.2,
) -> nn.Module:
    """Swin-T (arXiv 2103.14030), torchvision's at 224 pixels; small images get smaller patches and windows.

    By default patches have 4 pixels and windows 7 patches, or 2 and 4 for an ``image_size`` below 112 pixels, which has no other
    effect.
    """
    patch, window = (2, 4) if image_size < 112 else (4, 7)
    patch, window = patch_size or patch, window_size or window
    models = require("torchvision.models", "images")
    return models.SwinTransformer(
        patch_size=[patch, patch],
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[window, window],
        stochastic_depth_prob=stochastic_depth_prob,
        num_classes=num_classes,
    )
