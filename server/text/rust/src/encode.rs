//! Text to ids, by the library's own steps but in less memory: its `encode_fast` keeps all pieces
//! of the text until the last one is tokenized, and then lays out some 64 bytes for each token,
//! which post-processors copy. Here a piece is given up once it is tokenized.

use tokenizers::{
    Encoding, Model, NormalizedString, OffsetReferential, OffsetType, PreTokenizer, Result, Token,
    Tokenizer,
};

/// What the post-processor puts around a text: ids, and None for the text's own. None of the
/// library's looks at what the text is.
pub type Frame = Vec<Option<u32>>;

pub fn frame(tokenizer: &Tokenizer, add_special_tokens: bool) -> Result<Frame> {
    // The text's own is what differs with the text.
    let around = |id| {
        let text = Encoding::from_tokens(vec![Token::new(id, String::new(), (0, 0))], 0);
        tokenizer.post_process(text, None, add_special_tokens)
    };
    let (one, other) = (around(0)?, around(1)?);
    let pairs = one.get_ids().iter().zip(other.get_ids());
    Ok(pairs.map(|(id, other)| (id == other).then_some(*id)).collect())
}

pub fn encode(tokenizer: &Tokenizer, frame: &Frame, text: &str) -> Result<Vec<i32>> {
    let ids = encode_text(tokenizer, text)?;
    if frame[..] == [None] {
        return Ok(ids);
    }
    let mut framed = Vec::with_capacity(ids.len() + frame.len());
    for part in frame {
        match part {
            Some(id) => framed.push(*id as i32),
            None => framed.extend_from_slice(&ids),
        }
    }
    Ok(framed)
}

fn encode_text(tokenizer: &Tokenizer, text: &str) -> Result<Vec<i32>> {
    let added_vocabulary = tokenizer.get_added_vocabulary();
    let mut pieces = added_vocabulary.extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces)?;
    }
    let model = tokenizer.get_model();
    let mut ids = Vec::new();
    // Pieces that are added tokens have their ids already: the library neither asks for them nor
    // drops them. Before how many of `ids` they stand, and how many in a row.
    let mut runs = Vec::new();
    let mut next = 0;
    pieces.split(|place, piece| {
        if place > next {
            runs.push((ids.len(), place - next));
        }
        next = place + 1;
        let text = piece.get().to_owned();
        drop(piece); // 16 bytes for each of its text's
        ids.extend(model.tokenize(&text)?.iter().map(|token| token.id as i32));
        Ok(Vec::<NormalizedString>::new())
    })?;
    let added = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    if added.is_empty() {
        return Ok(ids);
    }
    runs.push((ids.len(), added.len())); // whatever is left
    let mut added = added.into_iter().map(|(_, _, tokens)| tokens.iter().flatten());
    let mut all = Vec::with_capacity(ids.len() + added.len());
    let mut begin = 0;
    for (end, count) in runs {
        all.extend_from_slice(&ids[begin..end]);
        all.extend(added.by_ref().take(count).flatten().map(|token| token.id as i32));
        begin = end;
    }
    Ok(all)
}
