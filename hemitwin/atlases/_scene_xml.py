"""The grammar of a Workbench scene: typed objects, arrays and maps."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

__all__ = ["Value", "array", "group", "group_array", "group_map", "item", "value_map"]

Value = str | int | float | bool


def item(kind: str, name: str, value: Value) -> ET.Element:
    """Write one value; `kind` is integer, float, boolean, string, pathName or enumeratedType."""
    element = ET.Element("Object", Type=kind, Name=name)
    element.text = _text(value)
    return element


def group(kind: str, name: str, *children: ET.Element, version: int = 1) -> ET.Element:
    """Write an object of class `kind` with its members."""
    attributes = {"Type": "class", "Class": kind, "Name": name, "Version": str(version)}
    element = ET.Element("Object", attributes)
    element.extend(children)
    return element


def array(kind: str, name: str, values: Sequence[Value]) -> ET.Element:
    """Write a list of plain values."""
    element = ET.Element("ObjectArray", Type=kind, Name=name, Length=str(len(values)))
    for index, value in enumerate(values):
        ET.SubElement(element, "Element", Index=str(index)).text = _text(value)
    return element


def group_array(name: str, groups: Sequence[ET.Element]) -> ET.Element:
    """Write a list of objects."""
    element = ET.Element("ObjectArray", Type="class", Name=name, Length=str(len(groups)))
    for index, child in enumerate(groups):
        ET.SubElement(element, "Element", Index=str(index)).append(child)
    return element


def group_map(name: str, groups: Mapping[int, ET.Element]) -> ET.Element:
    """Write objects by number."""
    element = ET.Element("ObjectMap", Type="class", Name=name)
    for key, child in groups.items():
        ET.SubElement(element, "Value", Key=str(key)).append(child)
    return element


def value_map(kind: str, name: str, values: Mapping[int, Value]) -> ET.Element:
    """Write plain values by number."""
    element = ET.Element("ObjectMap", Type=kind, Name=name)
    for key, value in values.items():
        ET.SubElement(element, "Value", Key=str(key)).text = _text(value)
    return element


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
