"""Convert colours to sRGB: by an ICC profile, by code points (CICP) or measured primaries, or as the mode says."""

import io

from PIL import Image, ImageChops, ImageCms

from imago.imaging.pixels import cicp
from imago.imaging.pixels.cicp import CodePoints, MeasuredColours
from imago.imaging.pixels.samples import Samples, to_gray_16, to_plain

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))


def to_srgb(
    image: Image.Image, *, profile: bytes | None, described: CodePoints | MeasuredColours | None, samples: Samples
) -> Image.Image:
    """Return the image in sRGB, as RGBA if it has transparency, else as RGB.

    A profile goes before what else the file says. One that is broken or of another kind than the pixels is ignored.
    """
    if image.mode == "LAB":
        return _converted(image, _LAB)
    plain = to_plain(image, samples)
    if not profile:
        return cicp.to_srgb(plain, described) if described else plain
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        base = _base(image, plain, source.profile.xcolor_space.strip(), samples)
        if base is None:
            return plain
        converted = _converted(base, source)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return plain
    if plain.mode == "RGBA":
        converted.putalpha(plain.getchannel("A"))
    return converted


def _base(image: Image.Image, plain: Image.Image, space: str, samples: Samples) -> Image.Image | None:
    """Return the pixels in the profile's colour space, without alpha; None if they have another one."""
    if space == "CMYK":
        return image if image.mode == "CMYK" else None
    if space == "RGB":
        return plain.convert("RGB")
    if space != "GRAY":
        return None
    if image.mode in ("I", "F"):
        return to_gray_16(image, samples)
    if image.mode == "CMYK":
        return None
    # Some decoders return gray pixels as RGB.
    red, green, blue = plain.convert("RGB").split()
    is_gray = not any(ImageChops.difference(red, other).getbbox() for other in (green, blue))
    return red if is_gray else None


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    if converted is None:
        raise ValueError("no conversion")
    return converted


def flatten(image: Image.Image) -> Image.Image:
    """Return an RGB image with white in place of transparency."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white
