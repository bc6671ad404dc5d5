"""Short texts in many languages, and the encodings that they are stored in."""

from __future__ import annotations

SIMPLIFIED = (
    "小明走进教室的时候，大家都在说话。老师还没有来，他把书包放在桌子上，看着窗外的雨。“今天是星期几？”他问。\n"
    "没有人回答他的问题，因为他们正在谈论昨天的比赛。（求推荐票，求收藏！）\n第十二章　山雨欲来\n\n"
    "那一年的冬天特别冷，河水结了冰，孩子们在冰上跑来跑去。爷爷坐在火炉旁边，给我讲他年轻时候的故事。\n"
)
TRADITIONAL = (
    "小明走進教室的時候，大家都在說話。老師還沒有來，他把書包放在桌子上，看著窗外的雨。「今天是星期幾？」他問。\n"
    "沒有人回答他的問題，因為他們正在談論昨天的比賽。（求推薦票，求收藏！）\n第十二章　山雨欲來\n\n"
    "那一年的冬天特別冷，河水結了冰，孩子們在冰上跑來跑去。爺爺坐在火爐旁邊，給我講他年輕時候的故事。\n"
)
CANTONESE = "佢哋喺街市買咗啲餸，嘅士多老闆話今日啲菜好平。我唔知點解佢咁開心，原來佢嘅仔考到第一。\n"
JAPANESE = (
    "むかしむかし、ある村におじいさんとおばあさんが住んでいました。おじいさんは山へ木を切りに、おばあさんは川へ\n"
    "洗濯に行きました。今日は日曜日なので、コンピュータの店は休みです。\n"
)
KOREAN = (
    "옛날 어느 마을에 가난한 농부가 살고 있었습니다. 그는 매일 아침 일찍 일어나 밭으로 나갔습니다.\n"
    "어느 날 길에서 작은 상자를 하나 주웠는데, 그 안에는 아무것도 없었습니다.\n"
)

SAMPLES: list[tuple[str, str]] = [
    ("gb18030", SIMPLIFIED),
    ("gb18030", TRADITIONAL),
    ("big5", TRADITIONAL),
    ("cp950", TRADITIONAL),
    ("big5hkscs", CANTONESE),
    ("cp932", JAPANESE),
    ("euc_jp", JAPANESE),
    ("iso2022_jp", JAPANESE),
    ("cp949", KOREAN),
    ("cp1252", "Le garçon a été très étonné de voir, près de la forêt, où l’on dansait déjà, un château. Ça alors !\n"),
    ("latin-1", "Die Bäume blühten früh, und die Mädchen saßen über den Büchern, während draußen Vögel sangen.\n"),
    ("cp1252", "El niño soñaba con montañas y señores que caminaban por el jardín. ¿Dónde está mi corazón?\n"),
    ("cp1250", "Chłopiec szedł przez las, a księżyc świecił nad łąką; może jutro będzie słońce, któż to wie.\n"),
    ("cp1250", "Děti běžely přes louku a smály se, když začalo pršet; kůň stál u řeky a čekal.\n"),
    ("cp1251", "Мальчик вышел из дома рано утром и пошёл по дороге к реке, где его ждали друзья.\n"),
    ("koi8_r", "Мальчик вышел из дома рано утром и пошёл по дороге к реке, где его ждали друзья.\n"),
    ("cp1253", "Η θάλασσα ήταν ήρεμη και ο ουρανός γαλανός. Τα παιδιά έπαιζαν στην άμμο όλη μέρα.\n"),
    ("cp1254", "Güneş doğarken çocuklar bahçede oynuyor, yaşlı adam ise çay içip şarkı söylüyordu.\n"),
    ("cp1255", "הילד יצא מן הבית בבוקר והלך אל הנהר, ושם חיכו לו החברים שלו.\n"),
    ("cp1256", "خرج الولد من البيت في الصباح وذهب إلى النهر حيث كان أصدقاؤه ينتظرونه.\n"),
    ("utf-16-le", TRADITIONAL),
    ("utf-16-be", "The boy left the house early and walked along the road to the river.\n" + SIMPLIFIED),
    ("utf-16", SIMPLIFIED),
    ("utf-32", KOREAN),
    ("utf-8-sig", JAPANESE),
    ("utf-8", TRADITIONAL),
]
"""An encoding and a text that is stored in it."""
