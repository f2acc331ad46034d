//! The writing system of a text, and the language where that settles it.

/// What the letters say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There are none.
    NoLetters,
    /// Latin letters, or so many of them that they are to be read.
    Latin,
    /// The script settles the language.
    Tells(&'static str),
}

/// A Latin part of this share is read as Latin: a comment in English that
/// quotes a sentence in another script is an English comment.
const LATIN_SHARE: f32 = 0.4;

/// Scripts by their blocks, with the language that each stands for; a code of
/// one letter is told further below.
const BLOCKS: &[(u32, u32, &str)] = &[
    (0x0370, 0x03ff, "el"),
    (0x0400, 0x052f, "C"),
    (0x0530, 0x058f, "hy"),
    (0x0590, 0x05ff, "he"),
    (0x0600, 0x06ff, "A"),
    (0x0700, 0x074f, "syr"),
    (0x0750, 0x077f, "A"),
    (0x0780, 0x07bf, "dv"),
    (0x0900, 0x097f, "hi"),
    (0x0980, 0x09ff, "bn"),
    (0x0a00, 0x0a7f, "pa"),
    (0x0a80, 0x0aff, "gu"),
    (0x0b00, 0x0b7f, "or"),
    (0x0b80, 0x0bff, "ta"),
    (0x0c00, 0x0c7f, "te"),
    (0x0c80, 0x0cff, "kn"),
    (0x0d00, 0x0d7f, "ml"),
    (0x0d80, 0x0dff, "si"),
    (0x0e00, 0x0e7f, "th"),
    (0x0e80, 0x0eff, "lo"),
    (0x0f00, 0x0fff, "bo"),
    (0x1000, 0x109f, "my"),
    (0x10a0, 0x10ff, "ka"),
    (0x1100, 0x11ff, "ko"),
    (0x1200, 0x139f, "E"),
    (0x1780, 0x17ff, "km"),
    (0x1f00, 0x1fff, "el"),
    (0x3040, 0x30ff, "ja"),
    (0x3130, 0x318f, "ko"),
    (0x3400, 0x9fff, "zh"),
    (0xa800, 0xa82f, "syl"),
    (0xac00, 0xd7af, "ko"),
    (0xf900, 0xfaff, "zh"),
    (0xfb50, 0xfdff, "A"),
    (0xfe70, 0xfeff, "A"),
    (0x20000, 0x3ffff, "zh"),
];

/// Reads the script off the letters of `text`.
pub(super) fn of(text: &str) -> Found {
    let mut latin = 0_usize;
    let mut by_block = [0_usize; BLOCKS.len()];
    let mut others = 0_usize;
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        let code = u32::from(c);
        if code < 0x0370 || (0x1e00..0x1f00).contains(&code) {
            latin += 1;
        } else if let Some(block) = BLOCKS.iter().position(|(from, to, _)| (*from..=*to).contains(&code)) {
            by_block[block] += 1;
        } else {
            others += 1;
        }
    }
    let other: usize = by_block.iter().sum();
    if latin + other == 0 {
        return if others > 0 { Found::Latin } else { Found::NoLetters };
    }
    let kana = count(&by_block, "ja");
    // A Chinese or Japanese sign says about as much as three letters.
    let dense = count(&by_block, "zh") + kana + count(&by_block, "ko");
    let weight = other + 2 * dense;
    if latin as f32 >= LATIN_SHARE * (latin + weight) as f32 {
        return Found::Latin;
    }
    if kana * 8 >= count(&by_block, "zh") && kana > 0 {
        return Found::Tells("ja");
    }
    let best = ["A", "C", "E", "zh"]
        .into_iter()
        .chain(BLOCKS.iter().map(|block| block.2))
        .max_by_key(|code| count(&by_block, code))
        .unwrap_or("zh");
    Found::Tells(match best {
        "A" => arabic(text),
        "C" => cyrillic(text),
        "E" => ethiopic(text),
        code => code,
    })
}

fn count(by_block: &[usize], code: &str) -> usize {
    BLOCKS.iter().zip(by_block).filter(|(block, _)| block.2 == code).map(|(_, count)| count).sum()
}

fn letters_among(text: &str, letters: &str) -> usize {
    text.chars().filter(|c| letters.contains(*c)).count()
}

fn words_among(text: &str, words: &[&str]) -> usize {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| words.contains(word)).count()
}

/// Urdu, Pashto, Kurdish, Persian or Arabic. Letters decide, then small words.
fn arabic(text: &str) -> &'static str {
    if letters_among(text, "ټډړږښڼېۍ") > letters_among(text, "ٹڈڑے") {
        return "ps";
    }
    if letters_among(text, "ۆێڵڕەڤ") >= 2 {
        return "ckb";
    }
    let urdu =
        letters_among(text, "ٹڈڑےںہھۓ") + words_among(text, &["کی", "کا", "کو", "اور", "ایک", "میں", "نے", "سے", "پر"]);
    let persian = words_among(
        text,
        &["است", "این", "را", "که", "برای", "با", "می", "از", "های", "و", "خوب", "خیلی", "بود", "ما"],
    );
    let arabic =
        letters_among(text, "ةىكيأإؤئ") + words_among(text, &["في", "من", "على", "هذا", "إلى", "أن", "جدا", "لا", "ما"]);
    let shared = letters_among(text, "گچپژک") + letters_among(text, "ی");
    if urdu > 0 && 2 * urdu >= persian && urdu + shared >= arabic {
        "ur"
    } else if shared > 0 && shared + persian >= arabic {
        "fa"
    } else {
        "ar"
    }
}

/// Ukrainian, Belarusian, Serbian, Macedonian, Bulgarian or Russian.
fn cyrillic(text: &str) -> &'static str {
    let lower = text.to_lowercase();
    let has = |letters: &str| letters_among(&lower, letters);
    if has("ѓќѕ") > 0 {
        "mk"
    } else if has("јљњћђџ") > 0 {
        "sr"
    } else if has("ў") > 0 {
        "be"
    } else if has("іїєґ") > 0 {
        "uk"
    } else if has("ыэё") > 0 {
        "ru"
    } else {
        let bulgarian =
            has("ъ") * 2 + words_among(&lower, &["и", "са", "се", "да", "ще", "за", "от", "това", "много", "е", "не"]);
        let russian = words_among(
            &lower,
            &["и", "в", "не", "на", "что", "это", "как", "для", "очень", "мы", "я", "но", "он", "нам", "хорошо"],
        );
        let ukrainian = words_among(
            &lower,
            &["це", "та", "не", "на", "що", "як", "для", "дуже", "ми", "я", "але", "він", "нам", "добре", "й", "у"],
        );
        if bulgarian > russian.max(ukrainian) {
            "bg"
        } else if ukrainian > russian {
            "uk"
        } else {
            "ru"
        }
    }
}

/// Tigrinya has letters that Amharic does without.
fn ethiopic(text: &str) -> &'static str {
    let tigrinya = text.chars().filter(|c| matches!(c, '\u{1250}'..='\u{1258}' | '\u{12b8}'..='\u{12be}')).count()
        + words_among(text, &["እዩ", "ኣብ", "ናይ", "ድማ", "ኣሎ"]);
    if tigrinya > 0 { "ti" } else { "am" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &'static str) {
        assert_eq!(of(text), Found::Tells(expected), "{text}");
    }

    #[test]
    fn a_script_of_one_language_settles_it() {
        check("मेंटरिंग बहुत अच्छा है", "hi");
        check("ਇਹ ਬਹੁਤ ਵਧੀਆ ਹੈ", "pa");
        check("এটা খুব ভালো", "bn");
        check("આ ખૂબ સારું છે", "gu");
        check("வழிகாட்டுதல் நல்லது", "ta");
        check("Πολύ καλή ιδέα", "el");
        check("这个项目很好", "zh");
        check("とても良いと思います", "ja");
        check("아주 좋은 생각입니다", "ko");
        check("רעיון טוב מאוד", "he");
        check("ดีมาก", "th");
        check("በጣም ጥሩ ነው", "am");
    }

    #[test]
    fn urdu_arabic_and_persian_are_told_apart() {
        check("یہ پروگرام بہت اچھا ہے", "ur");
        check("میرے بیٹے کو بہت مدد ملی", "ur");
        check("هذا البرنامج مفيد جدا للأطفال", "ar");
        check("المرشد ساعد ابني كثيرا", "ar");
        check("این برنامه برای بچه‌ها خیلی خوب است", "fa");
    }

    #[test]
    fn ukrainian_russian_and_bulgarian_are_told_apart() {
        check("Це дуже добре для дітей", "uk");
        check("Это очень хорошо для детей", "ru");
        check("Това е много добре за децата и ще помогне", "bg");
    }

    #[test]
    fn no_letters_tell_nothing_and_quoted_words_leave_the_rest() {
        assert_eq!(of("10/10 !!! 👍"), Found::NoLetters);
        assert_eq!(of("my gran says बहुत अच्छा about it"), Found::Latin);
        check("scheme बहुत अच्छी है और बच्चों के लिए", "hi");
    }
}
