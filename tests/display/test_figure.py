import warnings

import pytest

from delete_tasks.display import figure as figures

CJK = "李小龍"


def write_font(path, characters, family):
    """Write a font in which each character is a square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    glyphs = [".notdef", *[f"glyph{i}" for i in range(len(characters))]]
    builder, pen = FontBuilder(1000, isTTF=True), TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(dict(zip(map(ord, characters), glyphs[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.mark.parametrize("installed", [False, True])
def test_names_without_a_glyph(tmp_path, monkeypatch, installed):
    """They are drawn in a font of the system that has them, or as ids, never as boxes with a warning."""
    from matplotlib import font_manager

    write_font(tmp_path / "cjk.ttf", CJK, "Squares")
    fonts = [str(tmp_path / "cjk.ttf")] if installed else []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *args, **kwargs: fonts)
    figures._font_with.cache_clear()
    names = figures.drawable(["Zoë", CJK, "a\x1b[2J\ud800"], "person")
    assert names == ["Zoë", CJK if installed else "person 1", "a\x1b[2J\ud800"]
    figure = figures.new_figure((4, 3), "audit")
    axis = figure.subplots()
    title = axis.set_title(f"{CJK}\t\x1b[2J\ud800")
    axis.set_yticks([0, 1], [figures.drawn(CJK), r"$\b{$"])  # no mathematics
    axis.set_xlabel(r"$\frac{$")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save_figure(figure, tmp_path / "picture.png")
    assert title.get_text() == (CJK if installed else "???") + r" \u001b[2J\ud800"
    assert ("Squares" in title.get_fontfamily()) is installed
    figures._font_with.cache_clear()
