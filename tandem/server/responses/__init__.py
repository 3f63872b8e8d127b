"""OpenAI's Responses API over the same path as chats: the body becomes a chat, its answer an object with items."""
