# The source of tutorial.ipynb, made from it by: python -m tests.docs.tutorial
# A cell begins with a line "# %%"; one of text with "# %% [markdown]".

# %% [markdown]
# # Which regions, and which words, made the model say so?
#
# MedGemma reads a film and a question, and answers. This notebook shows how to ask **why it said
# that**: which cells of the image and which words of the question its words rest on.
#
# Everything runs on this machine: a small Redis, a small S3 store and one worker, started by the
# next cell and stopped by the last one. The model is a *phantom*: a real Gemma 3 network, but tiny,
# trained on drawn chest films whose lesion is known to the pixel. So for once you can check whether
# a map is right. With the real MedGemma only the name of the model changes.
#
# **Research use, not for diagnosis.**
#
# To run it: `pip install "medgemma-explainer[worker,dicom,embedded]" ipykernel`, then *Run all*; it
# takes about a minute. The pictures below were made by such a run.

# %%
from medgemma_cli.embedded import EmbeddedService

service = EmbeddedService().start()

# %% [markdown]
# ## Ask about a film
#
# This film is drawn, with a consolidation in the right mid zone. As on any chest film, the
# patient's right is on the left.

# %%
from medgemma_worker.phantom.images import make_phantom

film = make_phantom(20_002)
print("What is there:", film.answer)
film.image

# %% [markdown]
# A question is *submitted*, and gives a job; `wait` gives its result. While it waits, a line tells
# how far the job is. `keyword` names the word of the answer that is to be explained; without one it
# is the whole answer.

# %%
from medgemma_client import Client

client = Client()
job = client.submit(
    film.image,
    "Is there a finding?",
    keyword="consolidation",
    left_of_image="patient-right",  # a DICOM file says so by itself
    top_of_image="patient-head",
)
result = job.wait(timeout=120)
result

# %% [markdown]
# The card has the film under its map (the cross marks the cell with most relevancy), the answer
# with the explained word marked, and the shares. The same as numbers:

# %%
from medgemma_tasks.zones import in_words

target = result.targets[0]
shown = target.maps[0]
print("Answer:   ", result.answer)
print("Explained:", target.span.text)
print(
    f"Images hold {target.shares.images:.0%} of all relevancy, the question's words "
    f"{target.shares.prompt:.0%}"
)
print("On the film:", in_words(shown.zones))
print("Most in row, column:", shown.peak_cell, "of", result.heatmap.shape)

# %% [markdown]
# `result.heatmap` is the map as numbers from 0 to 1, `result.scores` the same before scaling. Words
# have scores, too: these of the question mattered most, all of them little. (Gemma's own signs
# between the turns are left out; they often hold a lot and mean nothing.)

# %%
words = [
    (score, token.text)
    for token, score in zip(result.record.tokens, target.scores)
    if token.role == "prompt"
]
for score, text in sorted(words, reverse=True)[:4]:
    print(f"{score:8.4f}  {text!r}")

# %% [markdown]
# Since the film is drawn, we know where its lesion is. Does the map's peak lie on it, or in a cell
# next to it?

# %%
from medgemma_worker.phantom.images import overlaps_cell

overlaps_cell(film.mask, shown.peak_cell)

# %% [markdown]
# ## A word against every token
#
# `every_token=True` explains each token of the answer by itself. All of them share one run of the
# model, so this costs little more than one word. The tokens in which films differ ("cons", "right",
# "mid") have their peak on the lesion or near it. Those that follow from the words before them
# ("the", "zone") have it anywhere: ask about the words that matter.

# %%
every = client.submit(film.image, "Is there a finding?", every_token=True).wait(timeout=120)
for number, one in enumerate(every.targets):
    print(
        f"{number:2}  {one.span.text!r:18} images {one.shares.images:4.0%}  "
        f"peak {one.maps[0].peak_cell}"
    )

# %% [markdown]
# The pictures that are stored are those of the first target. `overlay` draws that of any other:
# here that of `right`, where the model reads off the side.

# %%
side = [one.span.text.strip() for one in every.targets].index("right")
every.overlay(target=side)

# %% [markdown]
# ## Several images
#
# Images and texts can be mixed: a number stands for an image, from 0. All images of a question are
# drawn on one scale, and the shares say which of them the word rests on.

# %%
before = make_phantom(20_002, kind=None).image  # the same chest, without the lesion
pair = client.submit(
    [before, film.image],
    ["Before:", 0, "Now:", 1, "Is there a finding?"],
).wait(timeout=120)
print(pair.answer)
for number, one in enumerate(pair.targets[0].maps):
    print(f"image {number}: {one.share:.0%} of all relevancy, most in cell {one.peak_cell}")

# %% [markdown]
# ## How sure may you be?
#
# A map always shows *something*. Before you believe one, ask three things.
#
# **Did the explained run say the same?** The answer is scored again while it is explained. Where
# tokens come out that the model would not have said there, the map explains another answer. With
# an answer of yours (`answer=`) that is the point: the count says how far it is from what the model
# would have said.


# %%
def told(result):
    found = result.record.consistency
    print(f"{found.misses} of {found.checked} tokens are not what the model would say")


told(result)
mine = "There is a cavity in the left lower zone."
given = client.submit(film.image, "Is there a finding?", keyword="cavity", answer=mine)
told(given.wait(timeout=120))

# %% [markdown]
# **Does the word depend on the image at all?** `areas=True` covers the film's cells in the order of
# the map, and watches the word's probability fall. A low *deletion* area (it falls soon) and a high
# *insertion* area (it comes back soon) speak for the map. Where covering the whole film changes
# hardly anything, both are `None`: then no map can be right, however fine it looks. So it is with
# "zone", which follows from the words before it.

# %%
for word in ("consolidation", "zone"):
    measured = client.submit(film.image, "Is there a finding?", keyword=word, areas=True)
    areas = measured.wait(timeout=120).targets[0].areas
    print(f"{word}: log p {areas.log_p:.2f}, of a covered film {areas.log_p_covered:.2f}")
    print("   deletion", areas.deletion, "insertion", areas.insertion)

# %% [markdown]
# **Is there anything to point at?** Each map is drawn on its own scale, so even a film without a
# finding has a brightest cell. Here it means nothing: "no" rests on the whole film. Look at the
# answer first, and at the colours last.

# %%
nothing = client.submit(before, "Is there a finding?").wait(timeout=120)
print(nothing.answer, f"(images {nothing.targets[0].shares.images:.0%})")
print("Brightest cell all the same:", nothing.targets[0].maps[0].peak_cell)

# %% [markdown]
# Do not trust a map where an answer is wrong: it shows why the model erred, at best. Do not trust
# one on images unlike those that the model was made for, or take a bright region for the outline of
# a lesion: a cell is a sixteenth of the image's edge. [Is the map true?](truth.md) says what was
# measured.
#
# ## A study of slices
#
# A folder, a zip file or a list of DICOM files is asked about as a whole. What is shown of it is
# chosen as MedGemma was trained, and told. These five slices come with pydicom. (The phantom knows
# nothing of CT: what it says of them means nothing, only the way it takes is the real one.)

# %%
from pathlib import Path

from pydicom.data import get_testdata_file

slices = Path(get_testdata_file("DICOMDIR")).parent / "98892001" / "CT5N"
study = client.read_study(slices)
study

# %%
volume = client.submit(study=study, prompt="Is there a finding?", max_new_tokens=20)
volume = volume.wait(timeout=120)
print("Share of each slice:", [f"{share:.1%}" for share in volume.slice_shares()])
print("Peak:", volume.peak())

# %% [markdown]
# `volume.slices()` is a picture of the slices that matter most, and `volume.nifti("maps.nii.gz")`
# the maps in the patient's millimetres, for a viewer.
#
# ## Keep it
#
# `save` writes the pictures, the numbers, the record and the report; `report` that alone. It is one
# HTML file that needs no network. All of it holds what was asked and answered, and so does a saved
# notebook: treat them as you treat the images.

# %%
folder = result.save("tutorial-out/film")
print(sorted(path.name for path in folder.iterdir()))
result.report("tutorial-out/report.html")
# %% [markdown]
# ## When something is wrong
#
# Every error is a `MedGemmaError` with a stable `code`. Here the word is not in the answer, which
# is kept all the same.

# %%
from medgemma_client.errors import KeywordNotInAnswer

try:
    client.submit(film.image, "Is there a finding?", keyword="fracture").wait(timeout=120)
except KeywordNotInAnswer as error:
    print(error.code, "-", error.details["answer"])

# %% [markdown]
# ## Without waiting in line
#
# `AsyncClient` has the same names, to be awaited: for a web application, or here for three films at
# once. `progress` is called with each status.

# %%
import asyncio

from medgemma_client import AsyncClient


async def ask(client, seed):
    stages = []

    def progress(status):
        stage = status.stage or status.state
        if stage.value not in stages:
            stages.append(stage.value)

    job = await client.submit(make_phantom(seed).image, "Is there a finding?")
    result = await job.wait(120, progress)
    return f"{seed}: {result.answer}  ({stages[-1]})"


async with AsyncClient() as asynchronous:
    answers = await asyncio.gather(*(ask(asynchronous, seed) for seed in (20_003, 20_004, 20_005)))
print(*answers, sep="\n")

# %% [markdown]
# ## Many films
#
# A backfill takes rows, or a CSV file of them. Its jobs wait on a queue of their own, where single
# questions overtake them; broken off, it goes on where it was when it is started again.

# %%
rows = []
for seed in range(20_010, 20_016):
    path = Path(f"tutorial-out/film-{seed}.png")
    make_phantom(seed).image.save(path)
    rows.append({"item": str(seed), "image": path, "prompt": "Is there a finding?"})

found = {item.item: item for item in client.backfill(rows, out="tutorial-out/run")}
for name, item in sorted(found.items()):
    print(name, item.state.value, "|", item.answer, "| truth:", make_phantom(int(name)).answer)

# %% [markdown]
# `tutorial-out/run/` has `results.csv`, `failures.csv` and `summary.json`.
#
# ## Stop
#
# The last cell ends what the first one started; so does the end of the kernel.

# %%
client.close()
service.stop()
