"""What notebooks show, in a real Chromium: a crystal that turns, in a frame without rights."""

from potnet import read


def test_a_crystal_draws_itself_and_turns(browser, request) -> None:
    path = request.config.rootpath / "examples" / "crystals" / "SrTiO3.cif"
    page = browser.new_page()
    page.set_default_timeout(120_000)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.set_content(f"<!doctype html>{read(path)[0]._repr_html_()}")
    frame = page.frame_locator("iframe").locator("canvas")
    frame.wait_for()
    drawn = "(canvas) => canvas.toDataURL()"
    blank = """(canvas) => {
        const { width, height } = canvas;
        return Object.assign(document.createElement("canvas"), { width, height }).toDataURL();
    }"""
    for _ in range(600):  # until the frame has got its size
        if frame.evaluate(drawn) != frame.evaluate(blank):
            break
        page.wait_for_timeout(100)
    first = frame.evaluate(drawn)
    assert first != frame.evaluate(blank)
    frame.focus()
    page.keyboard.press("ArrowRight")
    assert frame.evaluate(drawn) != first
    assert all(url.startswith(("about:", "data:")) for url in asked)
    page.close()
