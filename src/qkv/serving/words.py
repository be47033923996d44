"""What the pages themselves say, in both languages; the answers speak for themselves."""

from __future__ import annotations

from qkv.lab.evidence import Text

WORDS: dict[str, Text] = {
    # every page
    "site": Text("The Transformer, question by question", "逐问 Transformer"),
    "lab": Text("the lab", "实验室"),
    "questions": Text("Questions", "全部问题"),
    "inside": Text("Look inside", "看内部"),
    "skip": Text("Skip to the text", "跳到正文"),
    "theme": Text("Light or dark", "浅色或深色"),
    "keys": Text("Keys", "快捷键"),
    "close": Text("Close", "关闭"),
    "key_next": Text("next question", "下一题"),
    "key_previous": Text("previous question", "上一题"),
    "key_search": Text("search", "搜索"),
    "key_language": Text("the other language, at the same place", "切换语言，留在原处"),
    "key_index": Text("all questions", "全部问题"),
    "key_help": Text("these keys", "本说明"),
    "made_by": Text(
        "Every number here was measured by a run of this package, and every claim has a control in which it fails.",
        "这里的每个数字都由本软件包实际运行测得；每条论断都有一个使它不成立的对照。",
    ),
    "missing_title": Text("There is no such page", "没有这一页"),
    "missing": Text("List A has questions 1 to 101, list B 1 to 32.", "A 组有 1 到 101 题，B 组有 1 到 32 题。"),
    # the index
    "lead": Text(
        "{total} questions on why and how the Transformer works, each answered by a run that could have come out the "
        "other way.",
        "关于 Transformer 为何有效、如何运作的 {total} 个问题，每个回答都由一次可能得出相反结果的实验支撑。",
    ),
    "so_far": Text("{answered} are answered so far.", "目前已答 {answered} 题。"),
    "list_a": Text("List A", "A 组"),
    "list_b": Text("List B", "B 组"),
    "search": Text("Search titles and answers", "搜索标题与正文"),
    "search_hint": Text("softmax, 缩放, A69 …", "缩放、softmax、A69……"),
    "filter": Text("Filter", "筛选"),
    "category": Text("Category", "类别"),
    "depth": Text("Depth", "深度"),
    "premise": Text("Premise", "前提"),
    "status": Text("Status", "状态"),
    "list": Text("List", "题组"),
    "all": Text("all", "全部"),
    "shown": Text("{n} of {total} questions", "{total} 题中的 {n} 题"),
    "nothing": Text("Nothing matches. Fewer words or filters find more.", "没有匹配的题目；减少词语或筛选条件再试。"),
    "clear": Text("Clear", "清除"),
    "answered": Text("answered", "已答"),
    "open": Text("not yet answered", "尚未回答"),
    # a question
    "short": Text("In two lines", "两句话回答"),
    "derivation": Text("Derivation", "推导"),
    "run": Text("What the run shows", "运行结果"),
    "limits": Text("Limits", "局限"),
    "doubt": Text("What would change our mind", "什么会改变我们的看法"),
    "sources": Text("Sources", "出处"),
    "next": Text("Next questions", "接着问"),
    "related": Text("Related", "相关问题"),
    "previous_page": Text("Previous", "上一题"),
    "next_page": Text("Next", "下一题"),
    "not_yet": Text(
        "This question has not been answered yet. An answer needs an experiment with a control; until there is one, "
        "the page stays open.",
        "这一题尚未回答。回答需要一个带对照的实验；在此之前，本页留空。",
    ),
    "only_other": Text("So far it is answered in Chinese only.", "目前只有英文回答。"),
    "faulty": Text(
        "There is a text, but it cannot be shown:",
        "已有文稿，但无法显示：",
    ),
    "premise_sound": Text("the premise is sound", "前提成立"),
    "premise_partly": Text("the premise holds in part", "前提部分成立"),
    "premise_wrong": Text("the premise is wrong", "前提不成立"),
    # evidence
    "claim": Text("Claim", "论断"),
    "measured": Text("Measured", "实测"),
    "expected": Text("Expected", "预期"),
    "control": Text("Control", "对照"),
    "control_note": Text("must fail here", "此处必须不成立"),
    "held": Text("held", "成立"),
    "failed": Text("did not hold", "不成立"),
    "observation": Text("observation", "观察"),
    "mean_of": Text("mean of {n} seeds", "{n} 个种子的平均"),
    "margin": Text("margin", "差距"),
    "margin_help": Text(
        "gap of the means, in units of the larger range over seeds; at least 3 is asked",
        "两组均值之差，以种子间较大的极差为单位；要求至少为 3",
    ),
    "numbers": Text("Other measurements", "其他测量"),
    "experiment": Text("Experiment", "实验"),
    "at_defaults": Text("at default parameters", "默认参数"),
    "seed": Text("Seed", "种子"),
    "seconds": Text("{n} s of CPU time", "CPU 时间 {n} 秒"),
    "unrecorded": Text(
        "No run of this experiment is on record yet, so its numbers are dashes.",
        "该实验尚无运行记录，因此数字以短横代替。",
    ),
    "outdated": Text("Measured by an earlier version of the code:", "由较早版本的代码测得："),
    "figure_data": Text("The numbers in the figure", "图中的数值"),
    "observed": Text(
        "Claims are asserted at default parameters only; with these they are observations.",
        "论断只在默认参数下断言；当前参数下仅为观察。",
    ),
    # run again
    "again": Text("Run again", "重新运行"),
    "parameters": Text("Parameters", "参数"),
    "start": Text("Run", "运行"),
    "cancel": Text("Cancel", "取消"),
    "defaults": Text("Defaults", "恢复默认"),
    "bounds": Text("{least} to {most}", "{least} 到 {most}"),
    "queued": Text("Waiting: {n} before this one", "排队中：前面还有 {n} 个"),
    "running": Text("Running", "运行中"),
    "starting": Text("Starting", "启动中"),
    "cancelled": Text("Cancelled.", "已取消。"),
    "finished": Text("Done.", "完成。"),
    "unreachable": Text(
        "The lab does not answer; is `qkv lab` still running?", "实验室没有响应；`qkv lab` 还在运行吗？"
    ),
    "static_again": Text("To run it yourself:", "自己运行："),
    # inside
    "inside_lead": Text(
        "Pick a trained run and give it a text: what each head looks at, how the search finds its answer, and what the "
        "model would say next without one head or one layer.",
        "选择一个训练好的模型并给出一段文字：每个头在看什么，搜索怎样找到答案，以及去掉某个头或某一层后下一个词的分布。",
    ),
    "no_runs": Text(
        "There is no trained run yet. Train one, and start the lab beside it:",
        "还没有训练好的模型。先训练一个，再启动实验室：",
    ),
    "which_run": Text("Run", "模型"),
    "text": Text("Text", "文字"),
    "beam": Text("Beam", "束宽"),
    "look": Text("Look", "查看"),
    "writes": Text("writes", "写出"),
    "reads": Text("reads", "读入"),
    "attention": Text("Attention", "注意力"),
    "site_encoder": Text("Encoder", "编码器"),
    "site_cross": Text("Cross", "交叉"),
    "site_decoder": Text("Decoder", "解码器"),
    "layer": Text("layer", "层"),
    "head": Text("head", "头"),
    "mean": Text("mean", "平均"),
    "looks_at": Text("{q} looks at {k}: {w} %", "{q} 看 {k}：{w} %"),
    "point": Text("Rows look, columns are looked at; each row sums to 1.", "行为查询，列为被看的对象；每行之和为 1。"),
    "decoding": Text("The search, step by step", "逐步解码"),
    "tree_help": Text(
        "Each column is a step; what the beam kept, best first. The line is the answer, a ring is an end.",
        "每列为一步：束中保留的候选，由好到差。连线为最终答案，圆环表示结束。",
    ),
    "step": Text("Step", "步"),
    "after": Text("after", "之后"),
    "considered": Text("What it considered at this step", "这一步考虑了什么"),
    "without": Text("Without a head or a layer", "去掉一个头或一层"),
    "without_help": Text(
        "How far the next token's distribution moves (KL divergence in nats) when one part is taken out.",
        "去掉某一部分后，下一个词的分布移动多少（KL 散度，单位 nat）。",
    ),
    "whole_layer": Text("layer", "整层"),
    "intact": Text("intact", "完整"),
    "removed": Text("without {part}", "去掉{part}"),
    "choose_part": Text("Choose a part above.", "在上方选择一个部分。"),
    "begin": Text("begin", "开始"),
}

CATEGORIES = {
    "第一性": "First principles",
    "原理": "Principles",
    "数理": "Mathematics",
    "架构": "Architecture",
    "工程": "Engineering",
    "算法": "Algorithms",
    "算法细节": "Details",
    "编程": "Programming",
    "代码": "Code",
    "比较": "Comparison",
    "优化": "Optimisation",
    "Pytorch": "PyTorch",
}
DEPTHS = {"basic": Text("basic", "基础"), "advanced": Text("advanced", "进阶")}
UNITS = {"share": Text("share", "占比"), "nat": Text("nat", "nat"), "seconds": Text("s", "秒"), "s": Text("s", "秒")}
PREMISES = {"sound": "✓", "partly": "◐", "wrong": "✗"}

SCRIPTED = (
    "shown",
    "queued",
    "running",
    "starting",
    "cancelled",
    "finished",
    "unreachable",
    "looks_at",
    "point",
    "layer",
    "head",
    "mean",
    "step",
    "after",
    "intact",
    "removed",
    "choose_part",
    "whole_layer",
    "site_encoder",
    "site_cross",
    "site_decoder",
    "begin",
    "writes",
    "reads",
)
"""What the scripts say: handed to them with the page."""


def word(key: str, language: str, **values: object) -> str:
    """The words called `key`, with {values} filled in."""
    text = WORDS[key].of(language)
    return text.format(**values) if values else text


def category(name: str, language: str) -> str:
    """A category's name; questions.yaml has them as the lists do, mostly in Chinese."""
    return CATEGORIES.get(name, name) if language == "en" else {"Pytorch": "PyTorch"}.get(name, name)


def depth(name: str, language: str) -> str:
    """L0 … L3 as they are, list B's two halves in words."""
    return DEPTHS[name].of(language) if name in DEPTHS else name


def unit(name: str, language: str) -> str:
    """A unit as it stands behind a number."""
    return UNITS[name].of(language) if name in UNITS else name
