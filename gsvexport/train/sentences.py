"""What the voice is chosen and measured with; `texts.corpus` leaves it out."""

from __future__ import annotations

from pathlib import Path

# The reference: its audio, text and codes travel with the voice as the prompt of everything it says.
REFERENCE = "We are going to the market to buy some bread and milk."

# Measured once, at the end.
TEST = (
    "The quick brown fox jumps over the lazy dog.",
    "She saw the small boat drift toward the harbor.",
    "Please turn off the light when you leave the kitchen.",
    "A gentle breeze moved the yellow leaves.",
    "Both children enjoyed the music at the school.",
    "The judge gave a short and careful answer.",
    "My cousin bought five bottles of fresh water.",
    "You should bring a warm coat and leather boots.",
    "Is this the road to the southern coast?",
    "I would rather walk than wait for another bus.",
    "Nobody noticed the shadow behind the door.",
    "Every morning the teacher counts the chairs.",
)

# Every choice between two ways of training is made on these.
VALIDATION = (
    "The train to the city leaves at seven in the morning.",
    "He put the letter on the table and closed the window.",
    "Do you know where the old library used to be?",
    "The children were playing outside, but it started to rain.",
    "My brother lives in a small town near the mountains.",
    "We had dinner at a restaurant by the river last night.",
    "She has worked for the same company for thirty years.",
    "Could you tell me what time it is?",
    "The doctor said that he should rest for a week.",
    "There is nothing better than a cup of hot coffee.",
    "They built a new bridge across the bay last summer.",
    "I forgot my keys, so I had to call my wife.",
    "The president will speak to the nation this evening.",
    "What a beautiful day it is today!",
    "Most people think that the price of gas is too high.",
    "The dog slept in front of the fire all afternoon.",
    "After the war, he moved to another country.",
    "How many students are there in your class?",
    "The police found the stolen car behind a warehouse.",
    "Her first book was about the history of science.",
    "It takes about an hour to drive to the airport.",
    "You can pay with cash or with a credit card.",
    "The company sold more than a million phones.",
    "In the end, nobody was surprised by the decision.",
    "Let me show you how this machine works.",
    "A heavy storm damaged several houses along the coast.",
    "The movie was long, but I liked it very much.",
    "He asked the waiter for a glass of water.",
    "Some of the best players could not join the team.",
    "Why did you not answer my question?",
    "The garden behind the church is full of roses.",
    "She opened the box and took out a silver ring.",
    "We need to find a better way to solve this problem.",
    "The farmer sold his horses and bought a truck.",
    "Every student must finish the project before Friday.",
    "The weather was cold, and the roads were covered with snow.",
    "I think you should talk to your mother about it.",
    "The museum opens at ten and closes at five.",
    "His voice was so quiet that nobody could hear him.",
    "Thank you very much for your help!",
)

# Measured at the end, by class of length: 25 each of 1 to 4 words, 5 to 10, 11 to 17, and 60 to 150 phones.
HELDOUT = tuple((Path(__file__).parent / "heldout.txt").read_text(encoding="utf-8").splitlines())
