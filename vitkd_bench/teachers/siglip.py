"""SigLIP: images and texts paired by a sigmoid loss (Zhai et al., ICCV 2023).

The architecture is SigLIP 2's: no class token, GELU in its tanh form, an attention pool.
"""

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import HALF_PIXELS, Components, Teacher
from vitkd_bench.teachers._released import (
    EXACT,
    accuracy,
    from_open_clip,
    from_timm,
    from_transformers,
    vit,
)

RESULTS = "mlfoundations/open_clip@89fb801 docs/openclip_results.csv"

TEACHERS.register(
    Teacher(
        name="siglip/b16",
        title="SigLIP ViT-B/16",
        family="siglip",
        group="reserve",
        paper="arXiv:2303.15343",
        objective="sigmoid loss of images and captions",
        licence="Apache-2.0",
        architecture=vit("b", Components(activation="gelu_tanh"), class_token=False),
        version=2,  # 1 had exact GELU
        pixels=HALF_PIXELS,
        crop=1.0,
        data="WebLI, images with captions",
        seen=("webli",),
        parameters=92_884_224,
        text_encoder="open_clip:ViT-B-16-SigLIP/webli",
        accuracy=(accuracy("zero_shot", 76.04, RESULTS),),
        sources=(
            from_timm(
                "vit_base_patch16_siglip_224.webli",
                arguments={"act_layer": "gelu_tanh"},
                differs=(EXACT,),
            ),
            from_open_clip(
                "ViT-B-16-SigLIP",
                "timm/ViT-B-16-SigLIP",
                ("text.*", "logit_scale", "logit_bias"),
                differs=(EXACT,),
            ),
            from_transformers(
                "SiglipVisionModel",
                "google/siglip-base-patch16-224",
                ("text_model.*", "logit_scale", "logit_bias"),
            ),
        ),
        notes="Images are squeezed to the square at evaluation. Parameters include the attention pool.",
    )
)
