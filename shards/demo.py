"""A small bilingual corpus spoken by espeak-ng, to try and test everything without a download."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from shards import espeak
from shards.errors import UserError
from shards.processes import die_with_parent

SAMPLE_RATE = 16_000
_VERSION = 1
_MIN_SECONDS, _MAX_SECONDS = 1.01, 29.95
_TARGETS = NormalDist(math.log(6.0), 0.75)
_CLOSE_ENOUGH = math.log(1.08)
_MAX_ATTEMPTS, _ENOUGH_ATTEMPTS = 60, 8


@dataclass(frozen=True)
class _Voice:
    speaker: str
    espeak: str
    words_per_minute: int
    pitch: int

    @property
    def language(self) -> str:
        return "ZH" if self.espeak.startswith("cmn") else "EN"


_VOICES = (
    _Voice("ada", "en-us+f2", 165, 55),
    _Voice("wei", "cmn+m1", 150, 45),
    _Voice("brian", "en-gb+m2", 150, 40),
    _Voice("lan", "cmn+f1", 165, 60),
    _Voice("clara", "en-us+f4", 185, 65),
    _Voice("dougal", "en-gb-scotland+m7", 140, 35),
    _Voice("jun", "cmn+m3", 185, 50),
    _Voice("edith", "en-gb+f5", 155, 70),
    _Voice("min", "cmn+f3", 140, 50),
    _Voice("frank", "en-us+m4", 200, 30),
    _Voice("yue", "cmn+f4", 200, 70),
    _Voice("grace", "en-029+f3", 175, 50),
)


@dataclass(frozen=True)
class _Grammar:
    """Sentence patterns and the words for their {slots}; `short` are whole sentences."""

    short: tuple[str, ...]
    patterns: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    separator: str
    characters_per_second: float

    def sentence(self, rng: random.Random) -> str:
        if rng.random() < 0.25:
            return rng.choice(self.short)
        drawn = {slot: rng.choice(words) for slot, words in self.words.items()}
        text = rng.choice(self.patterns).format(**drawn)
        return text[0].upper() + text[1:]

    def compose(self, rng: random.Random, characters: float) -> str:
        """Sentences of about `characters` in all, and always at least one."""
        text = ""
        while True:
            room = characters - len(text)
            offered = [self.sentence(rng) for _ in range(6)]
            offered = [s for s in offered if len(s) <= 1.1 * room] or [min(offered, key=len)]
            text = self.separator.join(filter(None, (text, offered[0])))
            if characters - len(text) < min(map(len, self.short)):
                return text


_ENGLISH = _Grammar(
    short=(
        "Good morning!",
        "Not yet, I am afraid.",
        "Where is the key?",
        "That sounds lovely.",
        "Please close the door.",
        "Who was that?",
        "Never mind.",
        "We are late again.",
        "Thank you very much.",
        "It works!",
        "Are you sure about that?",
        "See you tomorrow.",
        "Nobody answered.",
        "Let us try once more.",
        "How strange!",
        "I had no idea.",
        "Mind the step.",
        "Perhaps later.",
        "What time is it?",
        "The kettle is boiling.",
    ),
    patterns=(
        "{who} {did} {where}.",
        "{when}, {who} {did}.",
        "{who} {did} {where} {when}.",
        "{who} {did}, {tail}.",
        "{when}, {who} {did} {where}, {tail}.",
        "do you know why {who} {did} {when}?",
        "what a surprise: {who} {did} {where}!",
        "{other} told me that {who} {did}, {tail}.",
        "{who} {did}, but {other} would rather have stayed at home.",
        "nobody noticed how {who} {did} {where}; {tail}, of course.",
    ),
    words={
        "who": (
            "my brother",
            "the old fisherman",
            "our new neighbour",
            "a young violin player",
            "the doctor",
            "her favourite uncle",
            "the whole class",
            "an absent-minded chemist",
            "the train driver",
            "someone from the library",
            "the girl in the yellow coat",
            "every single guest",
            "the baker's daughter",
            "a very patient judge",
        ),
        "other": (
            "my aunt",
            "the postman",
            "Jonathan",
            "an honest witness",
            "the head gardener",
            "Victoria",
            "one of the twins",
            "our physics teacher",
        ),
        "did": (
            "bought two loaves of fresh bread",
            "fixed the broken radio",
            "lost a leather glove",
            "sang three quiet songs",
            "measured the height of the bridge",
            "told a long joke",
            "painted the fence bright green",
            "waited for the last bus",
            "fed the hungry geese",
            "wrote a letter to the mayor",
            "dropped a tray of glasses",
            "baked an apple pie",
            "counted exactly forty-seven boats",
            "borrowed an umbrella",
            "found a silver coin",
            "explained the rules of chess",
            "changed the light bulb",
            "fell asleep in a chair",
        ),
        "where": (
            "near the harbour",
            "behind the town hall",
            "at the corner shop",
            "in the kitchen",
            "on the way to school",
            "under the stone arch",
            "beside the frozen river",
            "in front of the museum",
            "at the far end of platform six",
            "on a crowded ferry",
            "in the middle of the market",
            "outside the cinema",
        ),
        "when": (
            "on Tuesday morning",
            "just before midnight",
            "last winter",
            "after breakfast",
            "during the thunderstorm",
            "at half past four",
            "a week ago",
            "in the early spring",
            "while the shops were closing",
            "once again",
            "on the first of June",
        ),
        "tail": (
            "because it was raining",
            "although nobody had asked",
            "which made us all laugh",
            "as if nothing had happened",
            "even though the museum was shut",
            "just in time",
            "without saying a word",
            "and the dog barked all evening",
            "to everyone's delight",
            "since there was nothing else to do",
            "so we decided to walk",
        ),
    },
    separator=" ",
    characters_per_second=14.0,
)

_MANDARIN = _Grammar(
    short=(
        "早上好！",
        "我还没准备好。",
        "钥匙在哪里？",
        "这个主意不错。",
        "请把门关上。",
        "刚才那个人是谁？",
        "没关系，慢慢来。",
        "我们又迟到了。",
        "非常感谢你。",
        "太好了！",
        "你确定吗？",
        "明天见。",
        "没有人回答。",
        "再试一次吧。",
        "真奇怪！",
        "我完全不知道。",
        "小心台阶。",
        "现在几点了？",
        "水已经开了。",
        "下次再说吧。",
    ),
    patterns=(
        "{who}在{where}{did}。",
        "{when}，{who}{did}。",
        "{when}，{who}在{where}{did}。",
        "{who}{did}，{tail}。",
        "{when}，{who}在{where}{did}，{tail}。",
        "你知道{who}为什么{when}{did}吗？",
        "真没想到，{who}居然在{where}{did}！",
        "{other}告诉我，{who}{when}{did}，{tail}。",
        "虽然{other}不同意，但是{who}还是{did}。",
        "听说{who}{did}的时候，{other}正在{where}等车；{tail}。",
    ),
    words={
        "who": (
            "我哥哥",
            "那位老渔夫",
            "新来的邻居",
            "一个年轻的医生",
            "全班同学",
            "火车司机",
            "穿黄大衣的女孩",
            "图书馆的阿姨",
            "他最喜欢的叔叔",
            "面包店的老板",
            "小王和小李",
            "一位很有耐心的老师",
        ),
        "other": (
            "我妈妈",
            "邮递员",
            "张先生",
            "隔壁的奶奶",
            "刘经理",
            "物理老师",
            "她的双胞胎妹妹",
        ),
        "did": (
            "买了两斤新鲜的苹果",
            "修好了那台旧收音机",
            "丢了一只手套",
            "唱了三首安静的歌",
            "讲了一个很长的笑话",
            "等最后一班公共汽车",
            "给市长写了一封信",
            "打碎了四个杯子",
            "数了数四十七条小船",
            "借了一把雨伞",
            "捡到一枚银色的硬币",
            "学会了下象棋",
            "换了一个灯泡",
            "喝了一碗热汤",
            "拍了很多照片",
            "跟朋友聊天",
        ),
        "where": (
            "港口附近",
            "学校门口",
            "厨房里",
            "博物馆前面",
            "结冰的河边",
            "菜市场",
            "电影院外面",
            "六号站台",
            "公园的长椅旁",
            "石桥下面",
            "办公室楼下",
        ),
        "when": (
            "星期二早上",
            "半夜十二点以前",
            "去年冬天",
            "吃完早饭以后",
            "下大雨的时候",
            "四点半",
            "一个星期以前",
            "初春的一天",
            "商店快关门的时候",
            "六月一号",
        ),
        "tail": (
            "因为外面下着雨",
            "大家都笑了起来",
            "好像什么也没发生过",
            "一句话也没说",
            "所以我们决定走路回家",
            "小狗叫了一个晚上",
            "这让所有人都很高兴",
            "时间刚刚好",
            "反正也没有别的事可做",
        ),
    },
    separator="",
    characters_per_second=3.6,
)


@dataclass(frozen=True)
class _Plan:
    """One clip to be spoken: everything that decides its bytes."""

    name: str
    voice: _Voice
    target_seconds: float
    seed: str


def speak_corpus(out: Path, *, clips: int = 400, seed: int = 0, workers: int) -> Path:
    """Speak `clips` clips of 1 to 30 s into `out/speech/` and list them in `out/speech.list`.

    The list has GPT-SoVITS's lines, `path|speaker|language|text`, the path relative to the list.
    Audio is 16 kHz mono FLAC. The files depend on `clips` and `seed` alone; a list made from the
    same two is left as it is, that of another corpus is replaced. Returns the list's path.

    Worker processes are spawned: call it under `if __name__ == "__main__"` in a script.
    """
    if clips < 1 or workers < 1:
        raise UserError(f"clips and workers must be at least 1; got {clips} and {workers}")
    listing, facts = out / "speech.list", out / "speech.json"
    parameters = json.dumps({"version": _VERSION, "clips": clips, "seed": seed})
    if listing.exists() and facts.exists() and facts.read_text("utf-8") == parameters:
        return listing
    (out / "speech").mkdir(parents=True, exist_ok=True)
    _discard(listing)
    lines = _speak_all(_plan(clips, seed), out, workers)
    _write(facts, parameters)
    _write(listing, "".join(f"{line}\n" for line in lines))
    return listing


def _plan(clips: int, seed: int) -> list[_Plan]:
    targets = [_target_seconds((index + 0.5) / clips) for index in range(clips)]
    random.Random(f"{seed}").shuffle(targets)
    voices = [_VOICES[index % len(_VOICES)] for index in range(clips)]
    return [
        _Plan(f"{voice.speaker}_{index:05d}", voice, target, f"{seed}:{index}")
        for index, (voice, target) in enumerate(zip(voices, targets, strict=True))
    ]


def _target_seconds(quantile: float) -> float:
    """The log-normal's quantile, cut to what a clip may last."""
    low, high = _TARGETS.cdf(math.log(1.15)), _TARGETS.cdf(math.log(28.5))
    return math.exp(_TARGETS.inv_cdf(low + quantile * (high - low)))


def _speak_all(plans: list[_Plan], out: Path, workers: int) -> list[str]:
    # Not forked: a parent that has used torch holds threads whose locks a fork would copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=die_with_parent) as pool:
        return list(pool.map(partial(_speak, out=out), plans, chunksize=8))


def _speak(plan: _Plan, out: Path) -> str:
    """Write one clip; return its line of the list."""
    text, audio = _fit(plan)
    path = out / "speech" / f"{plan.name}.flac"
    aside = path.with_suffix(".tmp")
    soundfile.write(aside, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    os.replace(aside, path)
    return f"speech/{path.name}|{plan.voice.speaker}|{plan.voice.language}|{text}"


def _fit(plan: _Plan) -> tuple[str, NDArray[np.int16]]:
    """The text and audio closest to the target length out of a few attempts."""
    rng = random.Random(plan.seed)
    grammar = _MANDARIN if plan.voice.language == "ZH" else _ENGLISH
    characters = plan.target_seconds * grammar.characters_per_second
    best: tuple[float, str, NDArray[np.int16]] | None = None
    for attempt in range(_MAX_ATTEMPTS):
        if best and (best[0] < _CLOSE_ENOUGH or attempt >= _ENOUGH_ATTEMPTS):
            return best[1:]
        text = grammar.compose(rng, characters)
        audio = _audio(text, plan.voice)
        seconds = len(audio) / SAMPLE_RATE
        miss = abs(math.log(seconds / plan.target_seconds))
        if _MIN_SECONDS <= seconds <= _MAX_SECONDS and (best is None or miss < best[0]):
            best = miss, text, audio
        characters *= math.sqrt(plan.target_seconds / seconds)
    raise RuntimeError(f"no text of about {plan.target_seconds:.1f} s found for {plan.name}")


def _audio(text: str, voice: _Voice) -> NDArray[np.int16]:
    audio, rate = espeak.synthesize(
        text, voice.espeak, words_per_minute=voice.words_per_minute, pitch=voice.pitch
    )
    # In float: soxr's int16 path was measured to differ from call to call in the last bits.
    resampled = soxr.resample(audio.astype(np.float32), rate, SAMPLE_RATE)
    samples: NDArray[np.int16] = np.clip(resampled.round(), -32_768, 32_767).astype(np.int16)
    return samples


def _discard(listing: Path) -> None:
    """Remove another corpus: its list first, so that no list ever names a missing clip."""
    if not listing.exists():
        return
    lines = listing.read_text("utf-8").splitlines()
    listing.unlink()
    for line in lines:
        (listing.parent / line.partition("|")[0]).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_text(text, "utf-8")
    os.replace(aside, path)
