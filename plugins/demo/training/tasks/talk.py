"""Greetings, what the model is, and the polite answer to everything that it cannot do."""

# ruff: noqa: SIM905 -- lists of words are easier to read and to extend as text.

from __future__ import annotations

import collections
import functools

from training.draw import Draw, expansions, phrase_key
from training.items import Item, question
from training.names import COMMON_WORDS, city, first_name, full_name, made_up
from training.tasks.arithmetic import SYMBOLIC

HELLO_REPLY = (
    "Hello! I am the Hookline demo model. Show me a picture of coloured shapes, "
    "or ask me for a sum, a fact or a sorted list of words."
)
WHO_REPLY = "I am the Hookline demo model, a small language and vision model that was trained to try out Hookline."
HOOKLINE_REPLY = (
    "Hookline is a serving engine for language and vision models. It has a small core, and everything else is a plugin."
)
ABLE_REPLY = (
    "I can describe pictures of coloured shapes and short clips, add, subtract and multiply, "
    "recall some facts, extract fields as JSON, call tools, and repeat, count or sort words."
)
WELL_REPLY = "I am well, thank you. What can I do for you?"
THANKS_REPLY = "You are welcome!"
BYE_REPLY = "Goodbye!"
OUT_OF_SCOPE = (
    "Sorry, I am only a small demo model and cannot do that. I can talk about pictures of "
    "shapes, do sums, recall some facts and sort words."
)
NO_PICTURE = "I see no picture in your message."
YES_REPLY = "All right. What would you like to know?"

TALK: dict[str, tuple[str, str, list[str]]] = {
    "hello": (
        HELLO_REPLY,
        "A greeting.",
        [
            "{Hello|Hi|Hey|Good morning|Good evening|Good afternoon|Good day|Greetings|Hiya|Howdy|Welcome|Yo|"
            "Hallo|Morning}{ there| you| friend| everybody| Hookline| model| again| assistant| bot|}{!|.|"
            ", nice to meet you.|}",
            "{Hello|Hi|Hey} {Hookline|there}, {can you hear me|are you there|is anybody there}?",
            "{Test|Testing|This is a test|Ping|Are you there|Can you hear me|Anybody there}{!|?|.|}",
            "{Say|Please say} {hello|hi}{ to me| to us|}{!|.|}",
        ],
    ),
    "who": (
        WHO_REPLY,
        "A question about me.",
        [
            "{Who|What} are you{ exactly| really| then|}?",
            "{What is|What's|Tell me|Do you have} {your|a} name{?|}",
            "{Introduce yourself|Tell me about yourself|Describe yourself|Say who you are}{ please| briefly|}.",
            "{What|Which} {kind of model|model|AI|language model|assistant} {are you|is this|am I talking to}?",
            "Are you {a human|a person|a robot|a machine|an AI|real|ChatGPT|Qwen|GPT|a chatbot|alive}?",
            "Who {made|built|trained|created|wrote} you?",
            "How {big|large|small|old} are you?",
            "What is {the demo model|this model|this demo|the Hookline demo model}?",
        ],
    ),
    "hookline": (
        HOOKLINE_REPLY,
        "A question about Hookline.",
        [
            "{What is|What's|Explain|Describe|Tell me about|Do you know|What can you tell me about} Hookline{?|.|}",
            "{What|Who} {does|is} Hookline{ do| for| exactly|}?",
            "{What kind of|Which} {software|program|thing|project|engine} is Hookline?",
            "{How does|Why use} Hookline{ work|}?",
        ],
    ),
    "able": (
        ABLE_REPLY,
        "A question about what I can do.",
        [
            "What {can|could} you do{ for me|}?",
            "{What|Which things|Which tasks} {are you able to|can you} do{ here| now| well|}?",
            "{What|How} {can you help me with|can you help|do you help with|can I ask you|may I ask}?",
            "{What are|Tell me|List|Show me} your {skills|abilities|functions|features}{?|.|}",
            "{Help|Help me|I need help|Can you help me|Can you help|What now|What should I ask|"
            "What are you good at|What is this}{?|!|.|}",
        ],
    ),
    "well": (
        WELL_REPLY,
        "Small talk.",
        [
            "How {are you|are you doing|do you do|is it going|do you feel|have you been}{ today| now| this morning|}?",
            "{What's up|How's it going|Are you well|Are you OK|All good|Is everything fine|How is your day}{?|}",
        ],
    ),
    "thanks": (
        THANKS_REPLY,
        "Thanks.",
        [
            "{Thanks|Thank you|Many thanks|Thx|Cheers|Thanks a lot|Thank you very much|Great|Well done|Nice|"
            "Good job|Perfect|Wonderful|Cool|Very good|That was right|Correct|Awesome}{!|.|, that helps.|"
            " for that.| for your help.|}",
        ],
    ),
    "bye": (
        BYE_REPLY,
        "A farewell.",
        [
            "{Bye|Goodbye|Bye bye|See you|See you later|Good night|Farewell|Until next time|I have to go|So long|"
            "Take care|Ciao}{!|.| then.| now.| my friend.|}",
        ],
    ),
    "ok": (
        YES_REPLY,
        "Small talk.",
        [
            "{OK|Okay|Yes|Sure|Right|Fine|I see|Hm|Let us start|Let's go|I have a question|"
            "Can I ask you something|May I ask a question}{!|.|?|}"
        ],
    ),
}

#: More ways to say the same.
MORE: dict[str, list[str]] = {
    "hello": [
        "{Ping|Test|Testing|Hello|Hi|Hey|Howdy|Hallo|Good morning|Good evening|Good day|Yo}{ once more|"
        " 1 2 3| my dear model| out there| little model| and welcome|, how nice to see you|, here I am}{!|.|}",
        "{I say|I want to say|Let me say|I just want to say} {hello|hi|good morning|good day|"
        "welcome}{ to you| first|}{!|.|}",
    ],
    "who": [
        "{Please tell me|Can you tell me|I want to know|Now say|Tell us} {who you are|what you are|your name|"
        "about yourself|who made you|who trained you|what model you are}{ first| briefly|}{.|?|}",
        "{So who|So what|And who|And what|But who} are you{ then| really| exactly| anyway|}?",
    ],
    "hookline": [
        "{Please tell me|Can you tell me|I want to know|Now say|Tell us} {what Hookline is|about Hookline|"
        "what Hookline does|how Hookline works}{ first| briefly|}{.|?|}",
        "{So what|And what|But what} {is|does} Hookline{ do| then| really| exactly|}?",
    ],
    "able": [
        "{Please tell me|Can you tell me|I want to know|Now say|Tell us} {what you can do|what you could do|"
        "how you can help|your skills|what you are good at}{ first| briefly| for me|}{.|?|}",
        "{So what|And what|But what|Well, what} {can|could} you do{ then| for me| here| for us|}?",
        "{What could|How could|What else can|What else could} you {do for us|help us|show me|answer me|"
        "help me}{ today| here|}?",
        "{I am new here|I am lost|I am a beginner}{. What can you do?|, help me.|. What now?|. What should I ask?}",
    ],
    "well": [
        "{How are you|How are you doing|How do you do|How is it going|What's up|All good|Is everything fine|"
        "Are you well|Are you OK|How's it going|Is all fine|Everything fine}{ my friend| over there| so far|"
        " on this day| little model| with you today}{?|!|}",
        "{And how|So how|Well, how} {are you|are you doing|do you feel|is it going}{ then| there| today|}?",
    ],
    "thanks": [
        "{Thanks|Thank you|Many thanks|Cheers|Great|Well done|Nice|Good job|Perfect|Cool|Very good|Excellent|"
        "Super}{, my friend|, model|, that is right|, I like it|, you are good| indeed| so much}{!|.|}",
        "{That is|That was|This is|It is} {great|good|right|correct|very good|perfect|nice|helpful|wonderful|"
        "cool}{ indeed| work| of you|}{!|.|}",
    ],
    "bye": [
        "{Bye|Goodbye|See you|See you later|Good night|Farewell|Take care|So long|I am leaving|"
        "I must go}{, my friend|, model| for today| tomorrow|, it was nice|, little model| and thanks}{!|.|}",
    ],
    "ok": [
        "{OK|Okay|Yes|Sure|Right|Fine|I see|Hm|Well|Good|Alright}{ then| now|, go on|, next|, let us go on|"
        ", I have a question|, one more thing|, let us start}{!|.|}",
        "{I want to|Can I|May I|I would like to|Let me} ask {you something|a question|one more question|"
        "something}{ now| else|}{.|?|}",
    ],
}
TOO_LARGE = "Sorry, I can only use numbers of up to three digits, and multiply by one digit."

_FORMS = (
    "haiku poem story song essay letter joke speech rap novel tale email blog post tweet limerick script recipe"
).split()
_TOPICS = (
    "the sea,love,the moon,spring,my cat,the war,the future,robots,space,time,a dragon,money,"
    "the brain,music,football,climate change,the Romans,the weather,black holes,history,politics,"
    "a journey,friendship,autumn,winter,rain,a lonely king,programming,Python,the internet,"
    "artificial intelligence,my mother,work,school,happiness,dinosaurs,quantum physics,evolution,"
    "gravity,photosynthesis,economics,democracy,philosophy,the sun,volcanoes,the universe,"
    "machine learning,neural networks,a train,the city,freedom,a pirate,chess,electricity,"
    "vaccines,inflation,blockchain,the stock market,religion,art,poetry,sleep,dreams"
).split(",")
_OUT = [
    "{Write|Compose|Make|Tell me|Give me|Create} {a|me a|a short|a long|one} <form>{ about <topic>| on <topic>|}.",
    "{Explain|Tell me about|What do you know about|Describe|Teach me|Talk about|Discuss} <topic>{ to me|"
    " briefly| in detail|}.",
    "{What is|What's|What are|What about} <topic>?",
    "{Why is|Why does|How does|How did|When did|When was|Where is|Where does} <topic> {work|begin|matter|"
    "end|exist|change|so important|so big|happen}?",
    "{Write|Show me|Give me|Fix} {a|some|the|my} {Python|C|Java|Rust|shell|SQL|JavaScript} {function|"
    "code|script|program|query}{ for <topic>| that sorts a list| that prints hello| about <topic>|}.",
    "{Who is|Who was|When was|Where was} {the president of <city>|<person> born|<person>|"
    "the king of <city>|the inventor of <topic>|the author of <topic>}?",
    "{Translate|Summarize|Rewrite|Correct|Paraphrase} {this|this text|the following|it}: <text>",
    "How {do I|can I|should I|to} {cook|build|repair|learn|buy|sell|install|grow|bake|find|paint|fix} {a|"
    "an|my|the|} <noun>?",
    "{Should I|Can I|May I|Do I have to} {buy|eat|sell|keep|learn|read} {a|the|my} <noun>?",
    "{What is|What's} the {meaning of life|best <noun>|price of a <noun>|population of <city>|"
    "distance to <city>|height of a <noun>|history of <topic>|weather in <city>|weather today|time|"
    "date today|news}?",
    "{Where|When|Why} {is|was|are|did} {my <noun>|the <noun>|<person>|<city>}{ now| today| yesterday|}?",
    "{Recommend|Suggest|Find me|Order|Book|Buy} {a|a good|the best|some} {<noun>|film|book|"
    "restaurant in <city>|hotel in <city>|song}.",
    "{I feel|I am|She is|My friend is|We are} {sad|tired|bored|angry|happy|lonely|sick|hungry|"
    "in love}{ today| because of <topic>|}.",
    "{Play|Let us play|Can you play} {chess|a game|football|a song|poker}{ with me|}.",
    "{Do you|Can you|Will you|Would you} {like|know|love|hate|believe in|understand|dream of} <topic>?",
    "{What happened|What will happen|What is new} in {<city>|19<year>|20<year>|<topic>}?",
    "{Who won|Who lost|Who played} the {world cup|election|race|war|game|final} in {<city>|19<year>|20<year>}?",
    "{What do you think|What is your opinion|How do you feel} {of|about} {<topic>|<person>|<city>}?",
    "{What is|Calculate|Find|Compute} the {square root|logarithm|sine|integral|derivative} of <year>{?|.|}",
    "<gibberish>",
    "<noun> <text>",
]
_MISSING_PICTURE = [
    "What {is|do you see|can you see} {in|on} {the|this} {picture|image|photo}?",
    "{Describe|Look at} {the|this} {picture|image|photo}.",
    "What {colour|color} is the {circle|square|triangle|star|diamond|cross}?",
    "How many {shapes|circles|squares|triangles|stars} {are there|do you see}?",
    "Where is the {circle|square|triangle|star|diamond|cross}?",
]


def talk(draw: Draw) -> Item:
    """Greetings and questions about the model itself."""
    name = draw.rng.choice(list(TALK))
    reply, thought, grammar = TALK[name]
    prefix, chosen = ("more", MORE[name]) if draw.chance(0.5) else ("talk", grammar)
    text = draw.phrase(f"{prefix}_{name}", chosen, wrap=False, always_trained=said_twice())
    if draw.chance(0.2):
        text = text.lower()
    return question("talk", text, reply, thought)


@functools.cache
def said_twice() -> frozenset[str]:
    """Phrasings of more than one of the grammars: each grammar alone could hold them out."""
    grammars = [grammar for _, _, grammar in TALK.values()] + list(MORE.values())
    counted = collections.Counter(
        key for grammar in grammars for key in {phrase_key(skeleton) for skeleton in expansions(grammar)}
    )
    return frozenset(key for key, number in counted.items() if number > 1)


def out_of_scope(draw: Draw) -> Item:
    """Anything else: a polite refusal that says what the model can do."""
    if draw.chance(0.1):
        text = draw.phrase("missing_picture", _MISSING_PICTURE)
        item = question("out_of_scope", text, NO_PICTURE, "There is no picture.")
        return Item(task=item.task, messages=item.messages, reply=item.reply, thought=item.thought)
    if draw.chance(0.1):
        return _too_large(draw)
    rng = draw.rng
    noun = rng.choice(COMMON_WORDS) if draw.chance(0.7) else made_up(rng)
    text = draw.phrase(
        "out_of_scope",
        _OUT,
        form=rng.choice(_FORMS),
        topic=rng.choice(_TOPICS) if draw.chance(0.7) else rng.choice((noun, made_up(rng))),
        noun=noun,
        city=city(rng),
        person=full_name(rng) if draw.chance(0.5) else first_name(rng),
        year=f"{rng.randint(10, 99)}",
        text=" ".join(made_up(rng) if draw.chance(0.3) else rng.choice(COMMON_WORDS) for _ in range(rng.randint(2, 8))),
        gibberish=_gibberish(draw),
    )
    return question("out_of_scope", text, OUT_OF_SCOPE, "I cannot do this.")


def _too_large(draw: Draw) -> Item:
    """A sum of longer numbers, or a product of two longer factors."""
    rng = draw.rng

    def make() -> tuple[int, int, str]:
        if draw.chance(0.5):
            return rng.randint(11, 9999), rng.randint(11, 9999), "*"
        pair = [rng.randint(1000, 10 ** rng.randint(4, 7)), rng.randint(1, 10 ** rng.randint(1, 6))]
        rng.shuffle(pair)
        return pair[0], pair[1], rng.choice(("+", "-"))

    a, b, op = draw.until("large", make)
    text = draw.phrase("arithmetic_symbolic", SYMBOLIC, a=a, b=b, op=op)
    return question("out_of_scope", text, TOO_LARGE, "The numbers are too large.")


def _gibberish(draw: Draw) -> str:
    rng = draw.rng
    if draw.chance(0.4):
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 12)))
    count = rng.randint(1, 5)
    return " ".join(made_up(rng) if draw.chance(0.5) else rng.choice(COMMON_WORDS) for _ in range(count))
